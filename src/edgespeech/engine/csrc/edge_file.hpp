// Reads the `.edge` file, version 1: every field is checked before a pointer made from it is used.
//
// Little-endian; every offset is a multiple of 64, and so is the size of the file. A header of 64 bytes, a
// table of 128 bytes a tensor, then sections: metadata, masks, values, scales, codebooks. No two overlap,
// what belongs to none is zero, and every section is followed by at least 64 bytes of the file: a kernel may
// read up to 63 bytes beyond a section's end, the one allowance for over-reading.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "packed.hpp"

namespace edgespeech {

enum class Encoding : std::uint8_t { Fp32 = 0, Fp16 = 1, Codes = 2 };

struct Tensor {
  std::string name;
  Encoding encoding;
  std::uint32_t rows, cols;
  const std::byte* floats;  // Fp32, Fp16: rows x cols, row-major; nullptr for Codes
  PackedMatrix packed;      // Codes only
  std::uint64_t bytes = 0;  // of all its sections
  std::size_t number = 0;   // its place in the file
};

// A checked file in memory. What it hands out lives as long as it does. It never changes after construction,
// so that any number of threads may use it.
class EdgeFile {
 public:
  // Maps the file at `path`, which must not be rewritten in place meanwhile; it may be replaced or removed.
  // Throws std::runtime_error: one line that names the file, the tensor, the field and what was expected.
  explicit EdgeFile(const std::string& path);
  // Uses bytes owned by the caller; `label` is their name in messages. They begin at a multiple of 64.
  EdgeFile(std::span<const std::byte> bytes, std::string label);

  std::string_view meta() const { return meta_; }  // UTF-8; begins and ends with braces; not parsed
  const std::vector<Tensor>& tensors() const { return tensors_; }
  // Throws std::invalid_argument when there is no tensor of that name.
  const Tensor& tensor(std::string_view name) const;
  // Throws std::invalid_argument when the tensor is unknown or holds floats.
  const PackedMatrix& matrix(std::string_view name) const;
  // Bytes of the tensors' sections: masks, values, scales and codebooks, without padding, table and metadata.
  std::uint64_t packed_bytes() const { return packed_bytes_; }

 private:
  struct Mapping {
    std::shared_ptr<const std::byte> bytes;
    std::size_t size;
  };
  static Mapping map(const std::string& path);
  EdgeFile(Mapping mapping, std::string label);

  std::shared_ptr<const std::byte> mapping_;  // empty if the caller owns the bytes
  std::string label_;
  std::string_view meta_;
  std::vector<Tensor> tensors_;
  std::map<std::string, std::size_t, std::less<>> index_;
  std::uint64_t packed_bytes_ = 0;
};

// FNV-1a (64 bit) over the 64-bit words from byte 64 to the end; the size is a multiple of 8, at least 64.
std::uint64_t edge_checksum(std::span<const std::byte> file);

}  // namespace edgespeech
