#include "quantise.hpp"

#include <algorithm>
#include <bit>
#include <limits>
#include <stdexcept>
#include <string>

namespace edgespeech {

float quantise(const float* x, std::size_t cols, std::int8_t* q) {
  // As integers, magnitudes order like the floats do, with infinity and NaN above all others.
  std::uint32_t largest = 0;
  for (std::size_t c = 0; c < cols; ++c) {
    largest = std::max(largest, std::bit_cast<std::uint32_t>(x[c]) & 0x7FFFFFFF);
  }
  if (largest > std::bit_cast<std::uint32_t>(std::numeric_limits<float>::max())) {
    throw std::invalid_argument("quantise.x: got a value that is not finite, expected finite values");
  }
  const float scale = std::bit_cast<float>(largest) / 127.0f;
  if (scale == 0) {
    std::fill(q, q + cols, std::int8_t{0});
    return 0;
  }
  // Adding 1.5 * 2^23 to a small float rounds it, half to even, into the lowest bits of the sum. The division
  // rounds too, most of all where the scale is near the least float: hence the limits.
  constexpr float kRound = 12582912.0f;
  constexpr auto kRoundBits = std::bit_cast<std::int32_t>(kRound);
  for (std::size_t c = 0; c < cols; ++c) {
    const float ratio = std::min(std::max(x[c] / scale, -127.0f), 127.0f);
    q[c] = static_cast<std::int8_t>(std::bit_cast<std::int32_t>(ratio + kRound) - kRoundBits);
  }
  return scale;
}

void rescale(const PackedMatrix& matrix, const std::int32_t* products, const float* scales, std::size_t batch,
             float* y) {
  const std::uint32_t groups = matrix.groups();
  for (std::size_t n = 0; n < batch; ++n) {
    const float* scale = matrix.scales;
    for (std::uint32_t row = 0; row < matrix.rows; ++row) {
      float sum = 0;
      for (std::uint32_t group = 0; group < groups; ++group) {
        sum += *scale++ * static_cast<float>(*products++);
      }
      *y++ = scales[n] * sum;
    }
  }
}

}  // namespace edgespeech
