// A developer's bench of the kernels: `bench_kernels [batch]`, one thread, the ISA by EDGESPEECH_ISA.
//
// Cold: every product reads a copy of its matrix that no cache can hold any more, since more memory than the
// last level holds was read in between. Warm: the same copy at once again. Layouts take turns within a
// round; medians over the rounds.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "kernels.hpp"
#include "random_matrix.hpp"

using namespace edgespeech;

namespace {

constexpr std::size_t kColdBytes = std::size_t{128} << 20;  // of copies of each layout
constexpr int kRounds = 60;

// Copies of one matrix in one arena.
struct Copies {
  std::vector<PackedMatrix> copies;
  std::vector<std::uint8_t> arena;
  std::size_t bytes;

  explicit Copies(const RandomMatrix& matrix) : bytes(matrix.bytes()) {
    const std::size_t mask_bytes = matrix.masks.size() * 8;
    const std::size_t stride = (bytes + kOverRead + 63) / 64 * 64;
    const std::size_t count = kColdBytes / stride + 1;
    arena.resize(count * stride);
    for (std::size_t i = 0; i < count; ++i) {
      std::uint8_t* place = arena.data() + i * stride;
      std::memcpy(place, matrix.masks.data(), mask_bytes);
      std::memcpy(place + mask_bytes, matrix.packed.values, bytes - mask_bytes);
      PackedMatrix copy = matrix.packed;
      copy.masks = reinterpret_cast<const std::uint64_t*>(place);
      copy.values = place + mask_bytes;
      copies.push_back(copy);
    }
  }
};

template <typename Work>
double microseconds(const Work& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

// The plainest reader: what one core gets from memory.
std::uint64_t read_all(const std::uint8_t* bytes, std::size_t count) {
  std::array<std::uint64_t, 32> sum{};
  for (std::size_t i = 0; i + 256 <= count; i += 256) {
    std::array<std::uint64_t, 32> words;
    std::memcpy(words.data(), bytes + i, 256);
    for (std::size_t j = 0; j < 32; ++j) sum[j] += words[j];
  }
  std::uint64_t total = 0;
  for (const std::uint64_t each : sum) total += each;
  return total;
}

struct Named {
  const char* name;
  std::uint8_t bits;
  bool sparse, codebook;
};
constexpr Named kLayouts[] = {{"8 bits, dense", 8, false, false},
                              {"8 bits, 50 % zeros", 8, true, false},
                              {"4 bits, dense", 4, false, false},
                              {"4 bits, 50 % zeros", 4, true, false},
                              {"4 bits, 50 %, table", 4, true, true}};

void bench(std::uint32_t rows, std::uint32_t cols, std::size_t batch) {
  std::mt19937 random(1);
  std::vector<Copies> layouts;
  for (const Named& each : kLayouts) {
    layouts.emplace_back(random_matrix({rows, cols, 0, each.bits, each.sparse, each.codebook, 0.5}, random));
  }
  std::vector<std::int8_t> q(batch * cols);
  for (auto& value : q) value = static_cast<std::int8_t>(static_cast<int>(random() % 255) - 127);
  std::vector<std::int32_t> out(batch * rows);
  Scratch scratch;

  std::vector<std::vector<double>> cold(layouts.size()), warm(layouts.size());
  std::vector<double> read;
  volatile std::uint64_t sink = 0;
  const std::size_t dense = std::size_t{rows} * cols;
  for (std::size_t round = 0; round < kRounds; ++round) {
    for (std::size_t i = 0; i < layouts.size(); ++i) {
      const auto& copies = layouts[i].copies;
      const auto product = [&] {
        multiply(chosen_isa(), copies[round % copies.size()], q.data(), batch, out.data(), scratch);
      };
      cold[i].push_back(microseconds(product));
      product();
      warm[i].push_back(microseconds(product));
    }
    const std::size_t count = layouts[0].copies.size();
    const std::uint8_t* place = layouts[0].copies[(round + count / 2) % count].values;
    read.push_back(microseconds([&] { sink = sink + read_all(place, dense); }));
  }
  std::printf("%u x %u, batch %zu, %s; plain read, cold: %.1f GB/s\n", rows, cols, batch, name(chosen_isa()),
              static_cast<double>(dense) / median(read) / 1e3);
  for (std::size_t i = 0; i < layouts.size(); ++i) {
    const double cold_us = median(cold[i]), warm_us = median(warm[i]);
    const double bytes = static_cast<double>(layouts[i].bytes);
    std::printf("  %-20s cold %8.1f us %5.1f GB/s x %4.2f   warm %8.1f us %6.1f GB/s x %4.2f\n",
                kLayouts[i].name, cold_us, bytes / cold_us / 1e3, median(cold[0]) / cold_us, warm_us,
                bytes / warm_us / 1e3, median(warm[0]) / warm_us);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::size_t batch = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 1;
  bench(2048, 512, batch);
  bench(4096, 1024, batch);
  bench(8192, 2048, batch);
}
