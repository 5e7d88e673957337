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

using Kernel = void (*)(const Product&);

// The kernel of an ISA, or nullptr when it is not compiled in or this CPU lacks it.
Kernel find_kernel(Isa isa) {
  if (isa == Isa::Scalar) return multiply_scalar;
#if defined(__x86_64__)
  if (isa == Isa::Avx2 && __builtin_cpu_supports("avx2")) return multiply_avx2;
  if (isa == Isa::Avx512 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi") &&
      __builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("avx512vnni") &&
      __builtin_cpu_supports("popcnt") && __builtin_cpu_supports("bmi2")) {
    return multiply_avx512;
  }
#elif defined(__aarch64__)
  if (isa == Isa::Neon) return multiply_neon;
#endif
  return nullptr;
}

Kernel kernel_of(Isa isa) {
  static const auto kernels = [] {
    std::vector<Kernel> found;
    for (const Isa each : kIsas) found.push_back(find_kernel(each));
    return found;
  }();
  const Kernel kernel = kernels[static_cast<std::size_t>(isa)];
  if (kernel == nullptr) {
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

bool available(Isa isa) { return find_kernel(isa) != nullptr; }

Isa chosen_isa() {
  static const Isa isa = choose();
  return isa;
}

void multiply(Isa isa, const PackedMatrix& matrix, const std::int8_t* q, std::size_t batch, std::int32_t* out,
              Scratch& scratch) {
  const Kernel kernel = kernel_of(isa);
  if (batch < 1 || batch > kMaxBatch) {
    throw std::invalid_argument("multiply.batch: got " + std::to_string(batch) + ", expected 1 to 8");
  }
  const std::uint32_t words = matrix.words(), groups = matrix.groups();
  if (matrix.row_start.back() == 0) return void(std::fill_n(out, batch * groups * matrix.rows, 0));  // all zeros
  const std::size_t used = batch * words;  // by the padded activations; rows to work on follow
  scratch.lines.resize(std::max(scratch.lines.size(), used + kScratchRows * (words + 1)));
  scratch.excess.resize(std::max(scratch.excess.size(), batch * groups));
  for (std::size_t n = 0; n < batch; ++n) {
    Line* lines = scratch.lines.data() + n * words;
    lines[words - 1] = {};
    std::memcpy(lines, q + n * matrix.cols, matrix.cols);
  }
  const Product p{.rows = matrix.rows,
                  .cols = matrix.cols,
                  .words = words,
                  .group_words = matrix.group == 0 ? words : matrix.group / 64,
                  .groups = groups,
                  .bits = matrix.bits,
                  .masks = matrix.sparse ? matrix.masks : nullptr,
                  .values = matrix.values,
                  .row_start = matrix.row_start.data(),
                  .codebook = matrix.codebook,
                  .batch = batch,
                  .q = scratch.lines.data()->bytes,
                  .scratch = scratch.lines[used].bytes,
                  .excess = scratch.excess.data(),
                  .out = out};
  kernel(p);
}

}  // namespace edgespeech
