#include "edge_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <utility>

namespace edgespeech {
namespace {

static_assert(std::endian::native == std::endian::little, "sections are used as they lie in the file");

constexpr std::uint64_t kAlignment = 64;
constexpr std::uint64_t kAllowance = 64;
constexpr std::uint32_t kVersion = 1;
constexpr std::uint32_t kMaxCols = 65536;
constexpr std::string_view kMagic{"EDGESPCH", 8};

struct Header {
  char magic[8];
  std::uint32_t version, tensor_count;
  std::uint64_t file_bytes, table_offset, meta_offset, meta_bytes, checksum, reserved;
};
static_assert(sizeof(Header) == 64);

struct Entry {
  char name[56];
  std::uint8_t encoding, bits, sparse, codebook;
  std::uint32_t group, rows, cols;
  std::uint64_t masks_offset, values_offset, values_bytes, scales_offset, codebook_offset;
  std::uint64_t non_zeros, reserved;
};
static_assert(sizeof(Entry) == 128);

std::string shown(std::uint64_t value) { return std::to_string(value); }

// The one message for a wrong field: "WHERE: FIELD is VALUE, expected EXPECTED".
[[noreturn]] void bad(const std::string& where, const char* field, std::uint64_t value,
                      const std::string& expected) {
  throw std::runtime_error(where + ": " + field + " is " + shown(value) + ", expected " + expected);
}

void expect(const std::string& where, const char* field, std::uint64_t value, std::uint64_t wanted) {
  if (value != wanted) bad(where, field, value, shown(wanted));
}

bool is_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i++]);
    if (lead < 0x80) continue;
    const int more = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : 1;
    if (lead < 0xC2 || lead > 0xF4) return false;
    std::uint32_t point = lead & (0x3F >> more);
    for (int k = 0; k < more; ++k, ++i) {
      if (i == text.size() || (static_cast<unsigned char>(text[i]) & 0xC0) != 0x80) return false;
      point = point << 6 | (static_cast<unsigned char>(text[i]) & 0x3F);
    }
    // Overlong forms, surrogates, and what lies beyond Unicode.
    if (point < (more == 3 ? 0x10000u : more == 2 ? 0x800u : 0x80u)) return false;
    if ((point >= 0xD800 && point <= 0xDFFF) || point > 0x10FFFF) return false;
  }
  return true;
}

bool all_zero(std::span<const std::byte> bytes) {
  return std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; });
}

// Bytes of a tensor's sections.
std::uint64_t bytes_of(const Tensor& tensor) {
  const std::uint64_t rows = tensor.rows;
  if (tensor.encoding != Encoding::Codes) return rows * tensor.cols * (tensor.encoding == Encoding::Fp32 ? 4 : 2);
  const PackedMatrix& packed = tensor.packed;
  return packed.row_start.back() + rows * packed.groups() * sizeof(float) +
         (packed.sparse ? rows * packed.words() * sizeof(std::uint64_t) : 0) +
         (packed.codebook ? std::uint64_t{1} << packed.bits : 0);
}

// Checks one file's bytes: first every field (`meta`, `tensor`), then how the sections lie (`layout`), and
// then what is in them (`contents`), so that no byte is read for two tensors.
class Checker {
 public:
  Checker(std::span<const std::byte> file, const std::string& label) : file_(file), label_(label) {
    if (file.size() < kMagic.size() || std::memcmp(file.data(), kMagic.data(), kMagic.size()) != 0)
      throw std::runtime_error(label + ": magic is not " + std::string(kMagic) + ", expected an .edge file");
    if (file.size() < sizeof(Header) + kAllowance || file.size() % kAlignment != 0)
      bad(label, "size in bytes", file.size(), "a multiple of 64, at least 128");
    std::memcpy(&header_, file.data(), sizeof(Header));
    expect(label, "version", header_.version, kVersion);
    expect(label, "file_bytes", header_.file_bytes, file.size());
    expect(label, "table_offset", header_.table_offset, sizeof(Header));
    expect(label, "reserved", header_.reserved, 0);
    expect(label, "checksum", header_.checksum, edge_checksum(file));
    const std::uint64_t most = (file.size() - sizeof(Header)) / sizeof(Entry);
    if (header_.tensor_count > most)
      bad(label, "tensor_count", header_.tensor_count, "at most " + shown(most));
    table_end_ = sizeof(Header) + std::uint64_t{header_.tensor_count} * sizeof(Entry);
  }

  std::uint32_t tensor_count() const { return header_.tensor_count; }
  std::uint64_t section_bytes() const { return section_bytes_; }

  std::string_view meta() {
    const std::byte* begin = section(label_, "meta_offset", header_.meta_offset, header_.meta_bytes);
    const std::string_view text(reinterpret_cast<const char*>(begin), header_.meta_bytes);
    if (!is_utf8(text) || text.size() < 2 || text.front() != '{' || text.back() != '}')
      throw std::runtime_error(label_ + ": meta is not a JSON object in UTF-8");
    return text;
  }

  Tensor tensor(std::uint32_t number) {
    const Entry entry = entry_of(number);
    Tensor tensor{.name = name(entry, number),
                  .encoding = Encoding{entry.encoding},
                  .rows = entry.rows,
                  .cols = entry.cols,
                  .floats = nullptr,
                  .packed = {},
                  .bytes = 0,
                  .number = number};
    const std::string where = label_ + ": tensor " + tensor.name;
    if (entry.encoding > 2) bad(where, "encoding", entry.encoding, "0 (fp32), 1 (fp16) or 2 (codes)");
    if (entry.rows == 0) bad(where, "rows", entry.rows, "at least 1");
    if (entry.cols == 0 || entry.cols > kMaxCols) bad(where, "cols", entry.cols, "1 to 65536");
    expect(where, "reserved", entry.reserved, 0);
    if (tensor.encoding == Encoding::Codes) {
      tensor.packed = codes(where, entry);
    } else {
      tensor.floats = floats(where, entry);
    }
    return tensor;
  }

  // Every section is known: none may overlap another, and what belongs to none is zero.
  void layout() {
    std::ranges::sort(sections_, {}, [](const Section& s) { return std::pair(s.offset, s.bytes); });
    std::uint64_t end = table_end_;
    for (const Section& section : sections_) {
      if (section.offset < end)
        bad(section.where, section.field, section.offset, "no overlap with what ends at " + shown(end));
      expect_zero(end, section.offset);
      end = section.offset + section.bytes;
    }
    expect_zero(end, file_.size());
  }

  // Scales, masks and the ends of the rows of tensor `number`; fills `row_start`.
  void contents(std::uint32_t number, Tensor& tensor) const {
    if (tensor.encoding != Encoding::Codes) return;
    const std::string where = label_ + ": tensor " + tensor.name;
    const Entry entry = entry_of(number);
    PackedMatrix& matrix = tensor.packed;
    const std::uint64_t scales = std::uint64_t{matrix.rows} * matrix.groups();
    for (std::uint64_t i = 0; i < scales; ++i)
      if (!std::isfinite(matrix.scales[i]) || matrix.scales[i] < 0)
        throw std::runtime_error(where + ": scales has a wrong value at " + shown(i) +
                                 ", expected finite values, not negative");
    std::uint64_t stored = 0, end = 0;
    matrix.row_start.reserve(std::size_t{matrix.rows} + 1);
    matrix.row_start.push_back(0);
    for (std::uint32_t row = 0; row < matrix.rows; ++row) {
      const std::uint64_t codes = matrix.sparse ? codes_in_mask(where, matrix, row) : matrix.cols;
      stored += codes;
      end += (codes * matrix.bits + 7) / 8;
      if (end > entry.values_bytes) bad(where, "values_bytes", entry.values_bytes, "at least " + shown(end));
      matrix.row_start.push_back(static_cast<std::uint32_t>(end));
      const unsigned used = codes * matrix.bits % 8;  // bits of the last byte
      if (used != 0 && matrix.values[end - 1] >> used != 0)
        throw std::runtime_error(where + ": values has bits beyond the codes of row " + shown(row) +
                                 ", expected zeros");
    }
    expect(where, "non_zeros", entry.non_zeros, stored);
    expect(where, "values_bytes", entry.values_bytes, end);
  }

 private:
  struct Section {
    std::uint64_t offset, bytes;
    std::string where;
    const char* field;
  };

  Entry entry_of(std::uint32_t number) const {
    Entry entry;
    std::memcpy(&entry, file_.data() + sizeof(Header) + std::size_t{number} * sizeof(Entry), sizeof(Entry));
    return entry;
  }

  void expect_zero(std::uint64_t begin, std::uint64_t end) const {
    if (!all_zero(file_.subspan(begin, end - begin)))
      throw std::runtime_error(label_ + ": bytes " + shown(begin) + " to " + shown(end) +
                               " belong to no section, expected zeros");
  }

  // Checks a section and returns where it begins.
  const std::byte* section(const std::string& where, const char* field, std::uint64_t offset,
                           std::uint64_t bytes) {
    if (offset % kAlignment != 0) bad(where, field, offset, "an offset that is a multiple of 64");
    if (offset < table_end_) bad(where, field, offset, "an offset of at least " + shown(table_end_));
    const std::uint64_t room = file_.size() - kAllowance;
    if (bytes > room || offset > room - bytes)
      bad(where, field, offset,
          "an offset with " + shown(bytes) + " bytes and 64 more before " + shown(file_.size()));
    sections_.push_back({offset, bytes, where, field});
    section_bytes_ += bytes;
    return file_.data() + offset;
  }

  std::string name(const Entry& entry, std::uint32_t number) const {
    const std::string where = label_ + ": tensor number " + shown(number);
    const std::string_view field(entry.name, sizeof(entry.name));
    const std::string_view text = field.substr(0, field.find('\0'));
    if (text.empty()) throw std::runtime_error(where + ": name is empty, expected 1 to 56 bytes");
    if (!is_utf8(text) || field.find_first_not_of('\0', text.size()) != std::string_view::npos)
      throw std::runtime_error(where + ": name is not UTF-8 padded with zeros");
    return std::string(text);
  }

  const std::byte* floats(const std::string& where, const Entry& entry) {
    expect(where, "bits", entry.bits, 0);
    expect(where, "sparse", entry.sparse, 0);
    expect(where, "codebook", entry.codebook, 0);
    expect(where, "group", entry.group, 0);
    expect(where, "masks_offset", entry.masks_offset, 0);
    expect(where, "scales_offset", entry.scales_offset, 0);
    expect(where, "codebook_offset", entry.codebook_offset, 0);
    const std::uint64_t elements = std::uint64_t{entry.rows} * entry.cols;
    expect(where, "non_zeros", entry.non_zeros, elements);
    expect(where, "values_bytes", entry.values_bytes, elements * (entry.encoding == 0 ? 4 : 2));
    return section(where, "values_offset", entry.values_offset, entry.values_bytes);
  }

  // rows < 2^32 and cols <= 2^16, so that no product below comes near 2^64.
  PackedMatrix codes(const std::string& where, const Entry& entry) {
    if (entry.bits < 2 || entry.bits > 8) bad(where, "bits", entry.bits, "2 to 8");
    if (entry.sparse > 1) bad(where, "sparse", entry.sparse, "0 or 1");
    if (entry.codebook > 1) bad(where, "codebook", entry.codebook, "0 or 1");
    if (entry.codebook == 1 && entry.bits > 6) bad(where, "bits", entry.bits, "at most 6 with a codebook");
    if (entry.group % 64 != 0) bad(where, "group", entry.group, "0 or a multiple of 64");
    if (!entry.sparse) expect(where, "masks_offset", entry.masks_offset, 0);
    if (!entry.codebook) expect(where, "codebook_offset", entry.codebook_offset, 0);
    if (entry.values_bytes > std::numeric_limits<std::uint32_t>::max())
      bad(where, "values_bytes", entry.values_bytes, "less than 2^32");

    PackedMatrix matrix;
    matrix.rows = entry.rows;
    matrix.cols = entry.cols;
    matrix.group = entry.group < entry.cols ? entry.group : 0;  // one group is the whole row
    matrix.bits = entry.bits;
    matrix.sparse = entry.sparse == 1;
    const std::uint64_t rows = matrix.rows;
    if (matrix.sparse)
      matrix.masks = reinterpret_cast<const std::uint64_t*>(
          section(where, "masks_offset", entry.masks_offset, rows * matrix.words() * sizeof(std::uint64_t)));
    matrix.values = reinterpret_cast<const std::uint8_t*>(
        section(where, "values_offset", entry.values_offset, entry.values_bytes));
    matrix.scales = reinterpret_cast<const float*>(
        section(where, "scales_offset", entry.scales_offset, rows * matrix.groups() * sizeof(float)));
    if (entry.codebook)
      matrix.codebook = reinterpret_cast<const std::int8_t*>(
          section(where, "codebook_offset", entry.codebook_offset, std::uint64_t{1} << entry.bits));
    return matrix;
  }

  static std::uint64_t codes_in_mask(const std::string& where, const PackedMatrix& matrix,
                                     std::uint32_t row) {
    const std::uint64_t* mask = matrix.masks + std::size_t{row} * matrix.words();
    const std::uint32_t in_last = matrix.cols % 64;
    if (in_last != 0 && mask[matrix.words() - 1] >> in_last != 0)
      throw std::runtime_error(where + ": masks has bits beyond the columns of row " + shown(row) +
                               ", expected zeros");
    std::uint64_t codes = 0;
    for (std::uint32_t k = 0; k < matrix.words(); ++k) codes += std::popcount(mask[k]);
    return codes;
  }

  std::span<const std::byte> file_;
  const std::string& label_;
  Header header_;
  std::uint64_t table_end_ = 0;
  std::uint64_t section_bytes_ = 0;  // of all sections, the metadata among them
  std::vector<Section> sections_;
};

}  // namespace

std::uint64_t edge_checksum(std::span<const std::byte> file) {
  std::uint64_t hash = 14695981039346656037u;
  for (std::size_t i = sizeof(Header); i < file.size(); i += sizeof(std::uint64_t)) {
    std::uint64_t word;
    std::memcpy(&word, file.data() + i, sizeof(word));
    hash = (hash ^ word) * 1099511628211u;
  }
  return hash;
}

EdgeFile::Mapping EdgeFile::map(const std::string& path) {
  const auto fail = [&](const std::string& why) { throw std::runtime_error(path + ": " + why); };
  // Without O_NONBLOCK, opening a pipe would wait for a writer.
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) fail(std::string("cannot be opened: ") + std::strerror(errno));
  const std::shared_ptr<const int> closer(&descriptor, [](const int* d) { close(*d); });
  struct stat status;
  if (fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) fail("is not a regular file");
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size == 0) fail("is empty, expected an .edge file");
  void* begin = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
  if (begin == MAP_FAILED) fail(std::string("cannot be mapped: ") + std::strerror(errno));
  const auto release = [begin, size](const std::byte*) { munmap(begin, size); };
  return {{static_cast<const std::byte*>(begin), release}, size};
}

EdgeFile::EdgeFile(const std::string& path) : EdgeFile(map(path), path) {}

EdgeFile::EdgeFile(Mapping mapping, std::string label)
    : EdgeFile(std::span(mapping.bytes.get(), mapping.size), std::move(label)) {
  mapping_ = std::move(mapping.bytes);
}

EdgeFile::EdgeFile(std::span<const std::byte> bytes, std::string label) : label_(std::move(label)) {
  if (reinterpret_cast<std::uintptr_t>(bytes.data()) % kAlignment != 0)
    throw std::runtime_error(label_ + ": bytes begin at an address that is not a multiple of 64");
  Checker checker(bytes, label_);
  meta_ = checker.meta();
  tensors_.reserve(checker.tensor_count());
  for (std::uint32_t i = 0; i < checker.tensor_count(); ++i) {
    tensors_.push_back(checker.tensor(i));
    if (!index_.emplace(tensors_.back().name, i).second)
      throw std::runtime_error(label_ + ": tensor " + tensors_.back().name + ": name is given twice");
  }
  checker.layout();
  packed_bytes_ = checker.section_bytes() - meta_.size();
  for (std::uint32_t i = 0; i < checker.tensor_count(); ++i) {
    checker.contents(i, tensors_[i]);
    tensors_[i].bytes = bytes_of(tensors_[i]);
  }
}

const Tensor& EdgeFile::tensor(std::string_view name) const {
  const auto found = index_.find(name);
  if (found == index_.end())
    throw std::invalid_argument(label_ + ": there is no tensor " + std::string(name));
  return tensors_[found->second];
}

const PackedMatrix& EdgeFile::matrix(std::string_view name) const {
  const Tensor& found = tensor(name);
  if (found.encoding != Encoding::Codes)
    throw std::invalid_argument(label_ + ": tensor " + found.name + ": holds floats, expected codes");
  return found.packed;
}

}  // namespace edgespeech
