#include "layer.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

namespace edgespeech {
namespace {

constexpr std::size_t kMostUnpacked = std::size_t{1} << 20;  // bytes of a matrix, by what a core's own cache holds

}  // namespace

void expect_finite(double value) {
  if (!std::isfinite(value))
    throw std::invalid_argument("model: a value of a layer overflowed, expected finite ones");
}

Layer::Layer(const Tensor& matrix, const Tensor* bias, Isa isa)
    : matrix_(&matrix),
      bias_of_(bias),
      bias_(bias ? floats_of(*bias) : nullptr),
      floats_(&float_kernels(isa)),
      isa_(isa) {
  if (matrix.encoding != Encoding::Codes) return;
  if (copy_helps(isa, matrix.packed)) copy_ = std::make_shared<Copy>();
  const std::size_t rows = matrix.rows, groups = matrix.packed.groups();
  if (groups == 1) return;
  turned_.resize(groups * rows);
  for (std::size_t row = 0; row < rows; ++row)
    for (std::size_t group = 0; group < groups; ++group)
      turned_[group * rows + row] = matrix.packed.scales[row * groups + group];
}

void Layer::multiply(const float* x, std::size_t batch, float* y, Workspace& work) const {
  const std::size_t rows = matrix_->rows, cols = matrix_->cols;
  if (bias_of_) work.used(*bias_of_, batch);
  if (matrix_->encoding == Encoding::Codes) {
    for (std::size_t n = 0; n < batch; n += kMaxBatch)
      multiply_codes(x + n * cols, std::min(batch - n, kMaxBatch), y + n * rows, work);
    return;
  }
  work.used(*matrix_, batch);
  if (matrix_->encoding == Encoding::Fp32) {
    floats_->product(floats_of(*matrix_), rows, cols, x, batch, bias_, y);
  } else {
    floats_->product_half(reinterpret_cast<const std::uint16_t*>(matrix_->floats), rows, cols, x, batch,
                          bias_, y);
  }
}

// Zeros take longer to put between the other weights than to multiply with. Codes without zeros are decoded sooner than
// what they become is written and read again.
void Layer::prepare(std::size_t products, std::size_t place, Workspace& work) const {
  const PackedMatrix& matrix = matrix_->packed;
  Unfolded& to = work.unfolded[place];
  if (products < 2 || to.of == matrix_ || matrix_->encoding != Encoding::Codes || !matrix.sparse) return;
  if (std::size_t{matrix.rows} * matrix.cols > kMostUnpacked) return;
  if (!copy_) unpack(isa_, matrix, to.unpacked, work.scratch);
  to.of = matrix_;
  work.used(*matrix_, 0);
}

const PackedMatrix& Layer::stored(Workspace& work) const {
  if (copy_) {
    std::call_once(copy_->once, [&] {
      edgespeech::copy(isa_, matrix_->packed, copy_->unpacked, work.scratch);
      copy_->bytes = copy_->unpacked.lines.size() * sizeof(Line);
    });
    return copy_->unpacked.packed;
  }
  for (const Unfolded& each : work.unfolded)
    if (each.of == matrix_) return each.unpacked.packed;
  return matrix_->packed;
}

void Layer::multiply_codes(const float* x, std::size_t batch, float* y, Workspace& work) const {
  const bool prepared = std::ranges::any_of(work.unfolded, [&](const Unfolded& each) { return each.of == matrix_; });
  const PackedMatrix* const matrix = &stored(work);
  if (prepared) {
    work.uses[matrix_->number].vectors += batch;
  } else {
    work.used(*matrix_, batch);
  }
  float scales[kMaxBatch];
  for (std::size_t n = 0; n < batch; ++n) {
    scales[n] = floats_->quantise(x + n * matrix->cols, matrix->cols, work.q.data() + n * matrix->cols);
    expect_finite(scales[n]);
  }
  edgespeech::multiply(isa_, *matrix, work.q.data(), batch, work.integers.data(), work.scratch);
  const std::size_t sums = std::size_t{matrix->rows} * matrix->groups();
  const float* row_scales = turned_.empty() ? matrix->scales : turned_.data();
  for (std::size_t n = 0; n < batch; ++n)
    floats_->rescale(work.integers.data() + n * sums, row_scales, matrix->groups(), scales[n], bias_, matrix->rows,
                     y + n * matrix->rows);
}

void Norm::apply(const FloatKernels& floats, const float* x, std::size_t vectors, float* y, Workspace& work) const {
  const std::size_t width = weight->cols;
  work.used(*weight, vectors);
  work.used(*bias, vectors);
  for (std::size_t v = 0; v < vectors; ++v)
    floats.layer_norm(x + v * width, floats_of(*weight), floats_of(*bias), width, y + v * width);
}

namespace {

// The bytes of a row in the file.
std::uint64_t row_bytes(const Tensor& matrix, std::uint32_t row) {
  if (matrix.encoding != Encoding::Codes)
    return std::uint64_t{matrix.cols} * (matrix.encoding == Encoding::Fp32 ? 4 : 2);
  const PackedMatrix& packed = matrix.packed;
  return packed.row_start[row + 1] - packed.row_start[row] + packed.groups() * sizeof(float) +
         (packed.sparse ? packed.words() * sizeof(std::uint64_t) : 0) +
         (packed.codebook ? std::uint64_t{1} << packed.bits : 0);
}

}  // namespace

void look_up(const Tensor& matrix, std::uint32_t row, float* to, Workspace& work) {
  work.uses[matrix.number].bytes += row_bytes(matrix, row);
  ++work.uses[matrix.number].vectors;
  const std::size_t cols = matrix.cols, first = row * cols;
  if (matrix.encoding == Encoding::Fp32) {
    std::memcpy(to, floats_of(matrix) + first, cols * sizeof(float));
    return;
  }
  if (matrix.encoding == Encoding::Fp16) {
    const auto* halves = reinterpret_cast<const std::uint16_t*>(matrix.floats) + first;
    std::transform(halves, halves + cols, to, half_to_float);
    return;
  }
  const PackedMatrix& packed = matrix.packed;
  const std::uint8_t* values = packed.values + packed.row_start[row];
  const std::uint64_t* masks = packed.sparse ? packed.masks + std::size_t{row} * packed.words() : nullptr;
  const float* scales = packed.scales + std::size_t{row} * packed.groups();
  std::size_t bit = 0;
  for (std::size_t column = 0; column < cols; ++column) {
    to[column] = 0;
    if (masks && !(masks[column / 64] >> column % 64 & 1)) continue;
    const std::uint32_t pair = values[bit / 8] | std::uint32_t{values[bit / 8 + 1]} << 8;  // within kOverRead
    const auto code = static_cast<std::int32_t>(pair >> bit % 8 & ((1u << packed.bits) - 1));
    const std::int32_t weight = packed.codebook ? packed.codebook[code] : code - (1 << (packed.bits - 1));
    to[column] = scales[packed.group == 0 ? 0 : column / packed.group] * static_cast<float>(weight);
    bit += packed.bits;
  }
}

}  // namespace edgespeech
