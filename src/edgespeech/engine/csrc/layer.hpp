// Products with a matrix of the file, and layer normalisation. Everything that reads weights goes through here, and is
// counted in the workspace: as bytes of the file, where a copy is read too, so that counts are those of every ISA.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "edge_file.hpp"
#include "floats.hpp"
#include "workspace.hpp"

namespace edgespeech {

// A copy of a matrix, for an ISA that is faster with one: made by the first product, and kept for all others.
struct Copy {
  std::once_flag once;
  Unpacked unpacked;
  std::atomic<std::size_t> bytes = 0;  // of its values; 0 before it is made
};

// A matrix of the file, and the bias that goes with it.
class Layer {
 public:
  Layer() = default;
  // bias: a vector of fp32 with a value for each row; nullptr for none.
  Layer(const Tensor& matrix, const Tensor* bias, Isa isa);

  std::size_t rows() const { return matrix_->rows; }
  std::size_t cols() const { return matrix_->cols; }

  // y[n] = matrix * x[n] + bias, for any number of vectors. Throws std::invalid_argument where the matrix holds
  // codes and a value of x is not finite.
  void multiply(const float* x, std::size_t batch, float* y, Workspace& work) const;

  // Its copy; nullptr where none would help.
  const std::shared_ptr<Copy>& copy() const { return copy_; }

  // To be called before so many products in a row: where it saves time the matrix is unpacked, to work.unfolded[place],
  // which they then use, until another matrix goes there.
  void prepare(std::size_t products, std::size_t place, Workspace& work) const;

 private:
  // What is multiplied: the matrix of the file, or what was unpacked or copied of it.
  const PackedMatrix& stored(Workspace& work) const;
  void multiply_codes(const float* x, std::size_t batch, float* y, Workspace& work) const;

  const Tensor* matrix_ = nullptr;
  const Tensor* bias_of_ = nullptr;
  std::vector<float> turned_;  // the scales, groups x rows, where there are groups: the file has rows x groups
  const float* bias_ = nullptr;
  std::shared_ptr<Copy> copy_;
  const FloatKernels* floats_ = nullptr;
  Isa isa_ = Isa::Scalar;
};

// Layer normalisation with weights of the file.
struct Norm {
  const Tensor *weight, *bias;

  // y[n] of x[n], `vectors` of them, as wide as the weights.
  void apply(const FloatKernels& floats, const float* x, std::size_t vectors, float* y, Workspace& work) const;
};

// The values of a tensor of fp32.
inline const float* floats_of(const Tensor& tensor) { return reinterpret_cast<const float*>(tensor.floats); }

// Row `row` of a matrix as floats, its columns in number.
void look_up(const Tensor& matrix, std::uint32_t row, float* to, Workspace& work);

// Throws std::invalid_argument where a value of a model is not finite.
void expect_finite(double value);

}  // namespace edgespeech
