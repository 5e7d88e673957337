// What kernels.cpp hands to the kernel of an ISA. Plain data only: an inline function or a template of the
// standard library, compiled with the flags of an ISA, could be the copy that the linker keeps for everyone.
#pragma once

#include <cstddef>
#include <cstdint>

namespace edgespeech {

constexpr std::size_t kScratchRows = 24;

// A product, prepared: activations padded with zeros to whole words of 64 columns, and aligned to 64 bytes.
struct Product {
  std::uint32_t rows;
  std::uint32_t cols;
  std::uint32_t words;        // of 64 columns, in a row
  std::uint32_t group_words;  // in a group; the last group of a row may be shorter
  std::uint32_t groups;
  std::uint32_t bits;
  bool bytes;
  const std::uint64_t* masks;  // nullptr when dense
  const std::uint8_t* values;
  const std::uint32_t* row_start;  // rows + 1
  const std::int8_t* codebook;     // nullptr when uniform
  std::size_t batch;
  const std::int8_t* q;   // batch x words x 64
  std::int8_t* scratch;   // kScratchRows x (words + 1) x 64 bytes, aligned too
  std::int32_t* excess;   // batch x groups, for the kernel to use
  std::int32_t* out;      // batch x groups x rows
};

// For each of the 256 masks of 8 columns: how many are stored, and which of the values to come goes to
// column j (255: none).
struct ExpandTable {
  std::uint8_t count[256];
  std::uint8_t index[256][8];
};
extern const ExpandTable kExpand;

void multiply_avx2(const Product& product);
void multiply_avx512(const Product& product);
void multiply_neon(const Product& product);

// Every weight of a sparse matrix plus 128 to a byte of its own, words x 64 of them a row. Of the product only the
// matrix and `scratch` are used. to: aligned to 64 bytes.
void unpack_avx2(const Product& product, std::uint8_t* to);
void unpack_avx512(const Product& product, std::uint8_t* to);
void unpack_neon(const Product& product, std::uint8_t* to);

// Every weight of a matrix as a code of so many bits, 8 in place of none, two of 4 bits or one of others to a byte:
// words x 32 or words x 64 bytes a row. Of the product only the matrix and `scratch` are used.
void copy_avx2(const Product& product, std::uint32_t bits, std::uint8_t* to);

}  // namespace edgespeech
