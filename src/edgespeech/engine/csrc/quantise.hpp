// What surrounds an integer product: activations to int8 before it, sums to float32 after it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "packed.hpp"

namespace edgespeech {

// q[c] = rint(x[c] / scale), half to even, within -127..127, where scale = max|x| / 127 is returned; all
// zeros when that is 0. Throws std::invalid_argument where a value is not finite.
float quantise(const float* x, std::size_t cols, std::int8_t* q);

// y[n, r] = scales[n] * sum over g, in order, of matrix.scales[r, g] * products[n, r, g].
// scales: batch, of `quantise`; products: batch x rows x groups, of `multiply`; y: batch x rows.
void rescale(const PackedMatrix& matrix, const std::int32_t* products, const float* scales, std::size_t batch,
             float* y);

}  // namespace edgespeech
