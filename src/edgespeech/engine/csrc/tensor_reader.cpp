#include "tensor_reader.hpp"

#include <algorithm>
#include <stdexcept>

namespace edgespeech {
namespace {

std::string shown(std::uint64_t rows, std::uint64_t cols) {
  return std::to_string(rows) + " x " + std::to_string(cols);
}

}  // namespace

bool TensorReader::has(const std::string& name) const {
  return std::ranges::any_of(file_.tensors(), [&](const Tensor& tensor) { return tensor.name == name; });
}

bool TensorReader::has_any(const std::string& prefix) const {
  return std::ranges::any_of(file_.tensors(), [&](const Tensor& tensor) { return tensor.name.starts_with(prefix); });
}

const Tensor& TensorReader::any(const std::string& name) {
  if (!has(name)) throw std::runtime_error(label_ + ": there is no tensor " + name);
  taken_.insert(name);
  return file_.tensor(name);
}

const Tensor& TensorReader::matrix(const std::string& name, std::uint64_t rows, std::uint64_t cols) {
  const Tensor& tensor = any(name);
  if (tensor.rows != rows || tensor.cols != cols)
    fail(name, "shape", shown(tensor.rows, tensor.cols), shown(rows, cols));
  return tensor;
}

const Tensor& TensorReader::vector(const std::string& name, std::uint64_t width) {
  const Tensor& tensor = matrix(name, 1, width);
  if (tensor.encoding != Encoding::Fp32)
    fail(name, "encoding", std::to_string(static_cast<int>(tensor.encoding)), "0 (fp32), as of every vector");
  return tensor;
}

Norm TensorReader::norm(const std::string& name, std::uint64_t width) {
  return {&vector(name + ".weight", width), &vector(name + ".bias", width)};
}

Layer TensorReader::layer(const std::string& name, std::uint64_t rows, std::uint64_t cols) {
  const Tensor& bias = vector(name + ".bias", rows);
  return plain(name + ".weight", rows, cols, &bias);
}

Layer TensorReader::plain(const std::string& name, std::uint64_t rows, std::uint64_t cols, const Tensor* bias) {
  const Layer made(matrix(name, rows, cols), bias, isa_);
  if (made.copy()) copies_.push_back(made.copy());
  return made;
}

Lstm TensorReader::lstm(const std::string& name, std::uint64_t width, std::uint64_t inputs) {
  const Tensor& bias = vector(name + ".bias", 4 * width);
  return {plain(name + ".weight_ih_l0", 4 * width, inputs, &bias),
          plain(name + ".weight_hh_l0", 4 * width, width)};
}

std::uint32_t TensorReader::parts(const std::string& name, const char* field, std::uint32_t total,
                                  std::uint32_t unit) const {
  if (total % unit != 0) fail(name, field, std::to_string(total), "a multiple of " + std::to_string(unit));
  return total / unit;
}

void TensorReader::expect_all_taken() const {
  for (const Tensor& tensor : file_.tensors())
    if (!taken_.contains(tensor.name))
      throw std::runtime_error(label_ + ": tensor " + tensor.name + " is not one of this model's");
}

void TensorReader::fail(const std::string& name, const char* field, const std::string& found,
                        const std::string& expected) const {
  throw std::runtime_error(label_ + ": tensor " + name + ": " + field + " is " + found + ", expected " + expected);
}

}  // namespace edgespeech
