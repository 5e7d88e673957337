// Takes a model's tensors out of a file, each of a shape that is known by then, and remembers which.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "edge_file.hpp"
#include "layer.hpp"

namespace edgespeech {

// A layer of an LSTM; the bias is the input's.
struct Lstm {
  Layer input, recurrent;
};

// All of it throws std::runtime_error, one line that names the file, the tensor and what was expected.
class TensorReader {
 public:
  // label: what messages call the file. Both outlive the reader.
  TensorReader(const EdgeFile& file, const std::string& label, Isa isa) : file_(file), label_(label), isa_(isa) {}

  bool has(const std::string& name) const;
  // Whether there is any tensor whose name begins so.
  bool has_any(const std::string& prefix) const;

  // A tensor of any shape.
  const Tensor& any(const std::string& name);
  const Tensor& matrix(const std::string& name, std::uint64_t rows, std::uint64_t cols);
  // Of fp32.
  const Tensor& vector(const std::string& name, std::uint64_t width);
  Norm norm(const std::string& name, std::uint64_t width);
  // `name.weight` and `name.bias`.
  Layer layer(const std::string& name, std::uint64_t rows, std::uint64_t cols);
  // A matrix alone, of any name.
  Layer plain(const std::string& name, std::uint64_t rows, std::uint64_t cols, const Tensor* bias = nullptr);
  Lstm lstm(const std::string& name, std::uint64_t width, std::uint64_t inputs);

  // How many `unit`s make up `total`, the columns (or rows) of a tensor.
  std::uint32_t parts(const std::string& name, const char* field, std::uint32_t total, std::uint32_t unit) const;

  void expect_all_taken() const;
  // Those of all layers so far.
  const std::vector<std::shared_ptr<const Copy>>& copies() const { return copies_; }

  [[noreturn]] void fail(const std::string& name, const char* field, const std::string& found,
                         const std::string& expected) const;

 private:
  const EdgeFile& file_;
  const std::string& label_;
  Isa isa_;
  std::set<std::string> taken_;
  std::vector<std::shared_ptr<const Copy>> copies_;
};

}  // namespace edgespeech
