// A packed matrix as the kernels read it: pointers into the sections of a mapped `.edge` file.
#pragma once

#include <cstdint>
#include <vector>

namespace edgespeech {

// weight[r, c] = scale[r, c / group] * int8 (group 0: one scale a row), where int8 = code - 2^(bits - 1),
// or codebook[code]; 0 where column c of row r is not stored.
//
// The loader has checked every field: rows >= 1, 1 <= cols <= 65536, 2 <= bits <= 8, bits <= 6 with a
// codebook, group a multiple of 64, mask bits beyond cols 0, row_start in agreement with the masks.
// `values` may be read up to 63 bytes beyond its end (kOverRead), and nothing else may be.
struct PackedMatrix {
  std::uint32_t rows = 0;
  std::uint32_t cols = 0;
  std::uint32_t group = 0;
  std::uint8_t bits = 0;
  bool sparse = false;
  bool bytes = false;  // of a copy alone: uniform codes of 5 to 7 bits, each in a byte of its own
  const std::uint64_t* masks = nullptr;    // rows x words() when sparse; bit j of word k: column 64 k + j
  const std::uint8_t* values = nullptr;    // codes, lowest bits first; every row starts at a byte
  const float* scales = nullptr;           // rows x groups()
  const std::int8_t* codebook = nullptr;   // 2^bits, or nullptr for uniform codes
  std::vector<std::uint32_t> row_start{};  // byte offset of each row in values; rows + 1 of them

  std::uint32_t words() const { return (cols + 63) / 64; }  // mask words in a row
  std::uint32_t groups() const { return group == 0 ? 1 : (cols + group - 1) / group; }
};

constexpr std::uint32_t kOverRead = 63;

}  // namespace edgespeech
