// Self-checking sweep of one kernel against a plain triple loop: `check_kernels ISA`. Exits with 0 when every
// product is equal, 1 at the first that differs, 77 when this CPU lacks the ISA. Meant for a build with
// sanitizers: every buffer has exactly its size, and the values exactly the allowance for over-reading.
// `check_kernels chosen` prints the kernel that would be used.
#include <cstdio>
#include <exception>
#include <string_view>

#include "kernels.hpp"
#include "random_matrix.hpp"

using namespace edgespeech;

namespace {

constexpr std::uint32_t kCols[] = {1, 63, 64, 65, 127, 128, 200, 512, 1000};
constexpr std::uint32_t kRows[] = {1, 3, 9};
constexpr std::uint32_t kGroups[] = {0, 64, 128};
constexpr std::size_t kBatches[] = {1, 2, 8};
constexpr double kSparsities[] = {0, 0.5, 1};

std::vector<std::int8_t> activations(std::size_t count, bool extreme, std::mt19937& random) {
  std::vector<std::int8_t> q(count);
  for (auto& value : q) {
    const int any = static_cast<int>(random() % 255) - 127;
    value = static_cast<std::int8_t>(extreme ? (any < -100 ? -127 : 127) : any);
  }
  return q;
}

// Whether every product of `packed`, with the weights of `matrix`, equals the plain sum; says which does not.
bool check(Isa isa, const RandomMatrix& matrix, const PackedMatrix& packed, const Layout& layout,
           const std::vector<std::int8_t>& q, std::size_t batch, Scratch& scratch) {
  const std::uint32_t groups = packed.groups(), width = layout.group ? layout.group : layout.cols;
  std::vector<std::int32_t> out(batch * layout.rows * groups, 123456789);
  multiply(isa, packed, q.data(), batch, out.data(), scratch);
  for (std::size_t n = 0; n < batch; ++n) {
    for (std::size_t row = 0; row < layout.rows; ++row) {
      std::vector<std::int64_t> sums(groups);
      for (std::size_t c = 0; c < layout.cols; ++c) {
        sums[c / width] += matrix.weights[row * layout.cols + c] * q[n * layout.cols + c];
      }
      for (std::size_t g = 0; g < groups; ++g) {
        const std::int32_t got = out[(n * groups + g) * layout.rows + row];
        if (got == sums[g]) continue;
        std::printf("%s: %s%u x %u, group %u, bits %u, sparse %d, codebook %d, sparsity %g, extreme %d, "
                    "batch %zu: out[%zu, %zu, %zu] is %d, expected %lld\n",
                    name(isa), &packed == &matrix.packed ? "" : "copied or unpacked, ", layout.rows, layout.cols, layout.group, layout.bits, layout.sparse,
                    layout.codebook, layout.sparsity, layout.extreme, batch, n, row, g, got,
                    static_cast<long long>(sums[g]));
        return false;
      }
    }
  }
  return true;
}

// The same of a random matrix as it is, as a copy where that helps, and unpacked where it is sparse.
bool check(Isa isa, const Layout& layout, std::size_t batch, std::mt19937& random) {
  const RandomMatrix matrix = random_matrix(layout, random);
  const auto q = activations(batch * layout.cols, layout.extreme, random);
  Scratch scratch;
  if (!check(isa, matrix, matrix.packed, layout, q, batch, scratch)) return false;
  if (copy_helps(isa, matrix.packed)) {
    Scratch copying;
    Unpacked copied;
    copy(isa, matrix.packed, copied, copying);
    if (!check(isa, matrix, copied.packed, layout, q, batch, scratch)) return false;
  }
  if (!layout.sparse) return true;
  Scratch unpacking;
  Unpacked unpacked;
  unpack(isa, matrix.packed, unpacked, unpacking);
  return check(isa, matrix, unpacked.packed, layout, q, batch, scratch);
}

// Every layout of every shape; half of them, by chance, with extreme values.
bool sweep(Isa isa, std::mt19937& random) {
  for (std::uint8_t bits = 2; bits <= 8; ++bits) {
    for (const bool codebook : {false, true}) {
      if (codebook && bits > 6) continue;
      for (const bool sparse : {false, true}) {
        for (const double sparsity : kSparsities) {
          if (!sparse && sparsity > 0) continue;
          for (const std::uint32_t group : kGroups) {
            for (const std::uint32_t cols : kCols) {
              for (const std::uint32_t rows : kRows) {
                for (const std::size_t batch : kBatches) {
                  const bool extreme = random() % 2 == 0;
                  const Layout layout{rows, cols, group, bits, sparse, codebook, sparsity, extreme};
                  if (!check(isa, layout, batch, random)) return false;
                }
              }
            }
          }
        }
      }
    }
  }
  return true;
}

// Every batch with every remainder of rows, and the longest row: products within a factor of 2 of 2^31.
bool corners(Isa isa, std::mt19937& random) {
  for (std::size_t batch = 1; batch <= kMaxBatch; ++batch) {
    for (const std::uint32_t rows : {1, 2, 4, 5, 6, 7, 8, 11}) {
      if (!check(isa, {rows, 300, 0, 5, true, false, 0.9}, batch, random)) return false;
    }
  }
  for (const bool sparse : {false, true}) {
    if (!check(isa, {2, 65536, 0, 8, sparse, false, 0, true}, 2, random)) return false;
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) try {
  const std::string_view argument = argc == 2 ? argv[1] : "";
  if (argument == "chosen") {
    std::printf("%s\n", name(chosen_isa()));
    return 0;
  }
  const Isa isa = isa_named(argument);
  if (!available(isa)) return 77;
  std::mt19937 random(20200924);
  return sweep(isa, random) && corners(isa, random) ? 0 : 1;
} catch (const std::exception& error) {
  std::printf("check_kernels: %s\n", error.what());
  return 1;
}
