// Choice of the kernel, preparation of a product, and the scalar kernel.
#include "kernels.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernel_parts.hpp"

namespace edgespeech {
namespace {

constexpr ExpandTable make_expand() {
  ExpandTable table{};
  for (int mask = 0; mask < 256; ++mask) {
    for (int j = 0; j < 8; ++j) table.index[mask][j] = mask >> j & 1 ? table.count[mask]++ : 255;
  }
  return table;
}

// The int8 weights of one row, zeros included.
void decode_row(const Product& p, std::uint32_t row, std::int8_t* weights) {
  const std::uint8_t* values = p.values + p.row_start[row];
  const std::uint32_t code_mask = (1u << p.bits) - 1;
  std::size_t bit = 0;
  for (std::size_t column = 0; column < std::size_t{p.words} * 64; ++column) {
    const std::size_t word = std::size_t{row} * p.words + column / 64;
    if (column >= p.cols || (p.masks && !(p.masks[word] >> column % 64 & 1))) {
      weights[column] = 0;
      continue;
    }
    const std::uint32_t bytes = values[bit / 8] | std::uint32_t{values[bit / 8 + 1]} << 8;
    const std::int32_t code = static_cast<std::int32_t>(bytes >> bit % 8 & code_mask);
    const std::int32_t uniform = code - (1 << (p.bits - 1));
    weights[column] = p.codebook ? p.codebook[code] : static_cast<std::int8_t>(uniform);
    bit += p.bits;
  }
}

void multiply_scalar(const Product& p) {
  const std::size_t width = std::size_t{p.words} * 64;
  for (std::uint32_t row = 0; row < p.rows; ++row) {
    decode_row(p, row, p.scratch);
    for (std::size_t n = 0; n < p.batch; ++n) {
      for (std::uint32_t group = 0; group < p.groups; ++group) {
        const std::size_t first = std::size_t{group} * p.group_words * 64;
        const std::size_t end = std::min(first + std::size_t{p.group_words} * 64, width);
        std::int32_t sum = 0;
        for (std::size_t c = first; c < end; ++c) sum += std::int32_t{p.scratch[c]} * p.q[n * width + c];
        p.out[(n * p.groups + group) * p.rows + row] = sum;
      }
    }
  }
}

void unpack_scalar(const Product& p, std::uint8_t* to) {
  const std::size_t width = std::size_t{p.words} * 64;
  for (std::uint32_t row = 0; row < p.rows; ++row) {
    decode_row(p, row, p.scratch);
    for (std::size_t c = 0; c < width; ++c) *to++ = static_cast<std::uint8_t>(p.scratch[c] + 128);
  }
}

struct Kernel {
  void (*multiply)(const Product&);
  void (*unpack)(const Product&, std::uint8_t*);
  void (*copy)(const Product&, std::uint32_t, std::uint8_t*) = nullptr;  // where copies help
};

// The kernel of an ISA; without functions when it is not compiled in or this CPU lacks it.
Kernel find_kernel(Isa isa) {
  if (isa == Isa::Scalar) return {multiply_scalar, unpack_scalar};
#if defined(__x86_64__)
  if (isa == Isa::Avx2 && __builtin_cpu_supports("avx2")) return {multiply_avx2, unpack_avx2, copy_avx2};
  if (isa == Isa::Avx512 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi") &&
      __builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("avx512vnni") &&
      __builtin_cpu_supports("popcnt") && __builtin_cpu_supports("bmi2")) {
    return {multiply_avx512, unpack_avx512};
  }
#elif defined(__aarch64__)
  if (isa == Isa::Neon) return {multiply_neon, unpack_neon};
#endif
  return {};
}

Kernel kernel_of(Isa isa) {
  static const auto kernels = [] {
    std::vector<Kernel> found;
    for (const Isa each : kIsas) found.push_back(find_kernel(each));
    return found;
  }();
  const Kernel kernel = kernels[static_cast<std::size_t>(isa)];
  if (kernel.multiply == nullptr) {
    throw std::invalid_argument(std::string("isa: got '") + name(isa) + "', which this CPU lacks");
  }
  return kernel;
}

Isa choose() {
  if (const char* wanted = std::getenv("EDGESPEECH_ISA")) {
    const Isa isa = isa_named(wanted);
    kernel_of(isa);
    return isa;
  }
  for (const Isa isa : {Isa::Avx512, Isa::Avx2, Isa::Neon}) {
    if (available(isa)) return isa;
  }
  return Isa::Scalar;
}

// A kernel's arguments for a matrix, without vectors and sums. scratch: `used` lines of it are taken already.
Product product_of(const PackedMatrix& matrix, Scratch& scratch, std::size_t used) {
  const std::uint32_t words = matrix.words();
  scratch.lines.resize(std::max(scratch.lines.size(), used + kScratchRows * (words + 1)));
  Product p{};
  p.rows = matrix.rows;
  p.cols = matrix.cols;
  p.words = words;
  p.group_words = matrix.group == 0 ? words : matrix.group / 64;
  p.groups = matrix.groups();
  p.bits = matrix.bits;
  p.bytes = matrix.bytes;
  p.masks = matrix.sparse ? matrix.masks : nullptr;
  p.values = matrix.values;
  p.row_start = matrix.row_start.data();
  p.codebook = matrix.codebook;
  p.q = scratch.lines.data()->bytes;
  p.scratch = scratch.lines[used].bytes;
  return p;
}

}  // namespace

const ExpandTable kExpand = make_expand();

const char* name(Isa isa) {
  constexpr const char* names[] = {"scalar", "avx2", "avx512", "neon"};
  return names[static_cast<std::size_t>(isa)];
}

Isa isa_named(std::string_view wanted) {
  for (const Isa isa : kIsas) {
    if (wanted == name(isa)) return isa;
  }
  const std::string got(wanted);
  throw std::invalid_argument("isa: got '" + got + "', expected scalar, avx2, avx512 or neon");
}

bool available(Isa isa) { return find_kernel(isa).multiply != nullptr; }

Isa chosen_isa() {
  static const Isa isa = choose();
  return isa;
}

void multiply(Isa isa, const PackedMatrix& matrix, const std::int8_t* q, std::size_t batch, std::int32_t* out,
              Scratch& scratch) {
  const auto kernel = kernel_of(isa).multiply;
  if (batch < 1 || batch > kMaxBatch) {
    throw std::invalid_argument("multiply.batch: got " + std::to_string(batch) + ", expected 1 to 8");
  }
  const std::uint32_t words = matrix.words(), groups = matrix.groups();
  if (matrix.row_start.back() == 0) return void(std::fill_n(out, batch * groups * matrix.rows, 0));  // all zeros
  Product p = product_of(matrix, scratch, batch * words);  // lines for padded activations, then rows to work on
  scratch.excess.resize(std::max(scratch.excess.size(), batch * groups));
  for (std::size_t n = 0; n < batch; ++n) {
    Line* lines = scratch.lines.data() + n * words;
    lines[words - 1] = {};
    std::memcpy(lines, q + n * matrix.cols, matrix.cols);
  }
  p.batch = batch;
  p.excess = scratch.excess.data();
  p.out = out;
  kernel(p);
}

bool copy_helps(Isa isa, const PackedMatrix& matrix) {
  const bool easy = !matrix.sparse && !matrix.codebook && (matrix.bits == 4 || matrix.bits == 8);
  const bool fits = std::uint64_t{matrix.rows} * matrix.words() * 64 < std::uint64_t{1} << 32;  // see row_start
  return kernel_of(isa).copy != nullptr && fits && !easy && !matrix.bytes;
}

void copy(Isa isa, const PackedMatrix& matrix, Unpacked& to, Scratch& scratch) {
  if (!copy_helps(isa, matrix)) throw std::invalid_argument("copy.matrix: got one that is fast as it is");
  const std::uint32_t words = matrix.words();
  const std::uint32_t bits = matrix.codebook ? 8 : std::max<std::uint32_t>(matrix.bits, 4);
  const std::uint32_t row_bytes = words * (bits == 4 ? 32 : 64);
  PackedMatrix& packed = to.packed;
  packed.rows = matrix.rows;
  packed.cols = matrix.cols;
  packed.group = matrix.group;
  packed.bits = static_cast<std::uint8_t>(bits);
  packed.bytes = bits > 4 && bits < 8;
  packed.scales = matrix.scales;
  packed.row_start.resize(std::size_t{matrix.rows} + 1);
  for (std::uint32_t row = 0; row <= matrix.rows; ++row) packed.row_start[row] = row * row_bytes;
  to.lines.resize((std::size_t{matrix.rows} * row_bytes + sizeof(Line) - 1) / sizeof(Line) + 1);
  packed.values = reinterpret_cast<const std::uint8_t*>(to.lines.data());
  kernel_of(isa).copy(product_of(matrix, scratch, 0), bits, reinterpret_cast<std::uint8_t*>(to.lines.data()));
}

void unpack(Isa isa, const PackedMatrix& matrix, Unpacked& to, Scratch& scratch) {
  const auto kernel = kernel_of(isa).unpack;
  if (!matrix.sparse) throw std::invalid_argument("unpack.matrix: got a dense one, expected a sparse one");
  const std::uint32_t words = matrix.words();
  PackedMatrix& packed = to.packed;
  packed.rows = matrix.rows;
  packed.cols = matrix.cols;
  packed.group = matrix.group;
  packed.bits = 8;
  packed.scales = matrix.scales;
  packed.row_start.resize(std::size_t{matrix.rows} + 1);
  for (std::uint32_t row = 0; row <= matrix.rows; ++row) packed.row_start[row] = row * words * 64;
  // A line more than the rows: kernels read beyond the values that they need.
  to.lines.resize(std::max(to.lines.size(), std::size_t{matrix.rows} * words + 1));
  packed.values = reinterpret_cast<const std::uint8_t*>(to.lines.data());
  kernel(product_of(matrix, scratch, 0), reinterpret_cast<std::uint8_t*>(to.lines.data()));
}

}  // namespace edgespeech
