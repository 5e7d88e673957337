// Arithmetic on floats, by the widest registers of this CPU.
//
// Every version works on 16 lanes, adds up in the same order and rounds after every operation: all give the
// same bits, and a vector's results do not depend on the batch it is in.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels.hpp"

namespace edgespeech {

// What the log-mel kernel looks up, see log_mel.hpp.
struct LogMelTables {
  static constexpr std::size_t kFrame = 400, kShift = 160, kBands = 80;  // samples, samples, values of a frame
  static constexpr std::size_t kHalf = 256;                              // of the transform of 512 values
  static constexpr float kPreEmphasis = 0.97f;

  float window[kFrame];
  float root_re[kHalf], root_im[kHalf];          // exp(-2 pi i k / 256)
  float re_64[3 * 16], im_64[3 * 16];            // exp(-2 pi i j k / 64), j from 1 on, k < 16
  float re_256[3 * 64], im_256[3 * 64];          // exp(-2 pi i j k / 256), j from 1 on, k < 64
  float re_512[kHalf], im_512[kHalf];            // -i exp(-2 pi i k / 512)
  std::uint16_t first[kBands], count[kBands];    // frequencies of each band
  float weights[2 * kHalf];                      // of those, band after band
};

struct FloatKernels {
  // y[n, r] = sum over c of w[r, c] * x[n, c], plus bias[r]. w: rows x cols; x: batch x cols; y: batch x rows;
  // bias: nullptr for none.
  void (*product)(const float* w, std::size_t rows, std::size_t cols, const float* x, std::size_t batch,
                  const float* bias, float* y);
  // The same with half-precision weights.
  void (*product_half)(const std::uint16_t* w, std::size_t rows, std::size_t cols, const float* x,
                       std::size_t batch, const float* bias, float* y);
  // q[i] = rint(x[i] / scale), half to even, within -127..127, where scale = max|x| / 127 is returned; all zeros
  // when that is 0, and when it is not finite, as where a value is not.
  float (*quantise)(const float* x, std::size_t count, std::int8_t* q);
  // Products of int8 to floats: y[r] = q_scale * (sum over g, in order, of scales[g, r] * integers[g, r]) + bias[r].
  // scales, integers: groups x rows, at least 1 group; bias: nullptr for none.
  void (*rescale)(const std::int32_t* integers, const float* scales, std::size_t groups, float q_scale,
                  const float* bias, std::size_t rows, float* y);
  // y = weight * (x - mean(x)) / sqrt(variance(x) + 1e-5) + bias.
  void (*layer_norm)(const float* x, const float* weight, const float* bias, std::size_t count, float* y);
  // One step of an LSTM (Hochreiter and Schmidhuber, 1997). The gates i, f, g, o, each `count` wide, are the
  // sums of `a` and `b`; `hidden` is written, `cell` goes on.
  void (*lstm)(const float* a, const float* b, std::size_t count, float* hidden, float* cell);
  // y = tanh(a + b).
  void (*tanh_sum)(const float* a, const float* b, std::size_t count, float* y);
  // x = exp(x) / sum of exp(x), of at least one value.
  void (*softmax)(float* x, std::size_t count);
  // The logarithm of the sum of exp(x).
  double (*log_sum_exp)(const float* x, std::size_t count);
  // The kBands log-mel features of a frame of kFrame samples of this mean; not finite where one overflows.
  void (*log_mel)(const LogMelTables& tables, const float* frame, float mean, float* to);
};

// Those that go with a kernel for codes. Throws std::invalid_argument when this CPU lacks the ISA.
const FloatKernels& float_kernels(Isa isa);

extern const FloatKernels kFloatsAvx2;
extern const FloatKernels kFloatsAvx512;

float half_to_float(std::uint16_t half);

}  // namespace edgespeech
