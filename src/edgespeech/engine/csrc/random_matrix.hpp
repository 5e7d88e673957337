// A random packed matrix that owns its sections, for the bench and the tests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "packed.hpp"

namespace edgespeech {

struct Layout {
  std::uint32_t rows, cols, group;
  std::uint8_t bits;
  bool sparse, codebook;
  double sparsity = 0;   // share of the columns that are not stored
  bool extreme = false;  // every weight is the lowest or the highest of its layout
};

struct RandomMatrix {
  PackedMatrix packed{};
  std::vector<std::int8_t> weights{};  // rows x cols, unpacked
  std::vector<std::uint64_t> masks{};
  std::vector<std::int8_t> codebook{};
  std::unique_ptr<std::uint8_t[]> values{};  // and exactly kOverRead bytes of noise behind them
  std::size_t bytes() const { return masks.size() * 8 + packed.row_start.back(); }
};

inline RandomMatrix random_matrix(const Layout& layout, std::mt19937& random) {
  RandomMatrix m;
  const std::uint32_t codes = 1u << layout.bits;
  if (layout.codebook) {
    m.codebook.resize(codes);
    for (auto& entry : m.codebook) entry = static_cast<std::int8_t>(static_cast<int>(random() % 256) - 128);
    if (layout.extreme) {
      m.codebook.front() = -128;
      m.codebook.back() = 127;
    }
  }
  m.packed.rows = layout.rows;
  m.packed.cols = layout.cols;
  m.packed.group = layout.group;
  m.packed.bits = layout.bits;
  m.packed.sparse = layout.sparse;
  const std::uint32_t words = m.packed.words();
  if (layout.sparse) m.masks.resize(std::size_t{layout.rows} * words);
  m.weights.resize(std::size_t{layout.rows} * layout.cols);
  std::vector<std::uint8_t> bytes;
  std::bernoulli_distribution absent(layout.sparsity);
  for (std::uint32_t row = 0; row < layout.rows; ++row) {
    m.packed.row_start.push_back(static_cast<std::uint32_t>(bytes.size()));
    std::uint32_t pending = 0, filled = 0;
    for (std::uint32_t column = 0; column < layout.cols; ++column) {
      if (layout.sparse) {
        if (absent(random)) continue;
        m.masks[std::size_t{row} * words + column / 64] |= std::uint64_t{1} << column % 64;
      }
      const std::uint32_t code = layout.extreme ? (random() % 8 == 0 ? codes - 1 : 0) : random() % codes;
      const int uniform = static_cast<int>(code) - static_cast<int>(codes / 2);
      const int weight = layout.codebook ? m.codebook[code] : uniform;
      m.weights[std::size_t{row} * layout.cols + column] = static_cast<std::int8_t>(weight);
      pending |= code << filled;
      for (filled += layout.bits; filled >= 8; filled -= 8, pending >>= 8) {
        bytes.push_back(static_cast<std::uint8_t>(pending));
      }
    }
    if (filled > 0) bytes.push_back(static_cast<std::uint8_t>(pending));
  }
  m.packed.row_start.push_back(static_cast<std::uint32_t>(bytes.size()));
  m.values = std::make_unique<std::uint8_t[]>(bytes.size() + kOverRead);
  for (std::size_t i = 0; i < bytes.size() + kOverRead; ++i) {
    m.values[i] = i < bytes.size() ? bytes[i] : static_cast<std::uint8_t>(random());
  }
  m.packed.masks = layout.sparse ? m.masks.data() : nullptr;
  m.packed.values = m.values.get();
  m.packed.codebook = layout.codebook ? m.codebook.data() : nullptr;
  return m;
}

}  // namespace edgespeech
