// The float kernels, for the file of an ISA to include: everything here is that file's own, since a shared
// inline function, compiled with the flags of an ISA, could be the copy that the linker keeps for everyone.
//
// The including file defines `Lanes`, `Unaligned`, `widen` and `kTileVectors` before (see floats.cpp).
#define INLINE __attribute__((always_inline))

namespace {

using Unsigned = std::uint32_t __attribute__((vector_size(64)));
using Integers = std::int32_t __attribute__((vector_size(64)));
using Bytes = std::int8_t __attribute__((vector_size(16)));
using Eight = float __attribute__((vector_size(32)));
using Four = float __attribute__((vector_size(16)));

constexpr std::size_t kLanes = 16;
constexpr std::size_t kAhead = 4096;  // bytes of the weights to prefetch ahead

inline Lanes load(const float* from) { return *reinterpret_cast<const Unaligned*>(from); }
inline Lanes load(const std::uint16_t* from) { return widen(from); }
inline Lanes load(const std::int32_t* from) {
  Integers integers;
  __builtin_memcpy(&integers, from, sizeof(integers));
  return __builtin_convertvector(integers, Lanes);
}

// `count` values, and zeros behind them; all lanes when there are more.
template <typename Number>
inline Lanes load(const Number* from, std::size_t count) {
  if (count >= kLanes) return load(from);
  Number some[kLanes] = {};
  __builtin_memcpy(some, from, count * sizeof(Number));
  return load(some);
}

template <typename Vector, typename Number>
inline void store(Number* to, const Vector& lanes, std::size_t count) {
  if (count >= kLanes) {
    __builtin_memcpy(to, &lanes, sizeof(lanes));
  } else {
    __builtin_memcpy(to, &lanes, count * sizeof(Number));
  }
}

// `visit(i, count)` for every 16 of `total` values, from the i-th on; only at the end are they fewer. That `count`
// is a constant until then keeps the loop free of what the end needs.
template <typename Visit>
inline void in_lanes(std::size_t total, Visit visit) {
  std::size_t i = 0;
  for (; i + kLanes <= total; i += kLanes) visit(i, kLanes);
  if (i < total) visit(i, total - i);
}

// The first `count` lanes, and `rest` in the others.
inline Lanes only(Lanes x, std::size_t count, float rest) {
  if (count >= kLanes) return x;
  const Integers place{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return place < static_cast<std::int32_t>(count) ? x : Lanes{} + rest;
}

inline float sum(Lanes x) {
  const Eight eight = __builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7) +
                      __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15);
  const Four four =
      __builtin_shufflevector(eight, eight, 0, 1, 2, 3) + __builtin_shufflevector(eight, eight, 4, 5, 6, 7);
  return (four[0] + four[2]) + (four[1] + four[3]);
}

// 2^n * exp(r) with |r| <= ln(2) / 2, by the series of exp. Beyond +-60 it stands still: what is computed from it
// does not change there, and nothing comes near the smallest floats, which are slow.
inline Lanes exp(Lanes x) {
  constexpr float kLog2E = 1.44269504f, kMost = 60.0f;
  constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;  // n times the former is exact
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: a small float added to it is rounded
  const Lanes zero{};
  x = x > kMost ? zero + kMost : x < -kMost ? zero - kMost : x;
  const Lanes shifted = x * kLog2E + kRound;
  const Lanes n = shifted - kRound;
  const Lanes r = (x - n * kLn2High) - n * kLn2Low;
  Lanes series = zero + 1.0f / 5040;
  for (const float factor : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) {
    series = series * r + factor;
  }
  const Unsigned exponent = (Unsigned)shifted - __builtin_bit_cast(std::uint32_t, kRound) + 127;
  return series * (Lanes)(exponent << 23);
}

inline Lanes sigmoid(Lanes x) { return 1.0f / (1.0f + exp(-x)); }
inline Lanes tanh(Lanes x) { return 1.0f - 2.0f / (1.0f + exp(2.0f * x)); }

// `rows` rows times `vectors` vectors. Each of these products adds up in 16 lanes, whatever is beside it.
template <std::size_t rows, std::size_t vectors, typename Number>
inline void tile(const Number* w, std::size_t stride, const float* x, std::size_t cols, const float* bias,
                 float* y) {
  constexpr std::size_t kLine = 64 / sizeof(Number);  // columns in a cache line of weights
  Lanes sums[rows][vectors] = {};
  const auto add = [&](std::size_t c, std::size_t count) INLINE {
    Lanes columns[vectors];
    for (std::size_t n = 0; n < vectors; ++n) columns[n] = load(x + n * cols + c, count);
    for (std::size_t row = 0; row < rows; ++row) {
      const Lanes weights = load(w + row * cols + c, count);
      for (std::size_t n = 0; n < vectors; ++n) sums[row][n] += weights * columns[n];
    }
  };
  std::size_t c = 0;
  for (; c + kLine <= cols; c += kLine) {
    for (std::size_t row = 0; row < rows; ++row) {
      __builtin_prefetch(reinterpret_cast<const char*>(w + row * cols + c) + kAhead);
    }
    for (std::size_t k = 0; k < kLine; k += kLanes) add(c + k, kLanes);
  }
  for (; c < cols; c += kLanes) add(c, cols - c);
  for (std::size_t row = 0; row < rows; ++row) {
    const float more = bias ? bias[row] : 0;
    for (std::size_t n = 0; n < vectors; ++n) y[n * stride + row] = sum(sums[row][n]) + more;
  }
}

template <std::size_t tall, typename Number>
inline void product_rows(const Number* w, std::size_t rows, std::size_t cols, const float* x,
                         std::size_t batch, const float* bias, float* y) {
  std::size_t n = 0;  // `tall` rows are read once from memory, for all vectors
  for (; n + kTileVectors <= batch; n += kTileVectors) {
    tile<tall, kTileVectors>(w, rows, x + n * cols, cols, bias, y + n * rows);
  }
  for (; n < batch; ++n) tile<tall, 1>(w, rows, x + n * cols, cols, bias, y + n * rows);
}

template <typename Number>
void product(const Number* w, std::size_t rows, std::size_t cols, const float* x, std::size_t batch,
             const float* bias, float* y) {
  constexpr std::size_t kTall = 4;
  std::size_t row = 0;
  for (; row + kTall <= rows; row += kTall) {
    product_rows<kTall>(w + row * cols, rows, cols, x, batch, bias ? bias + row : nullptr, y + row);
  }
  for (; row < rows; ++row) {
    product_rows<1>(w + row * cols, rows, cols, x, batch, bias ? bias + row : nullptr, y + row);
  }
}

float quantise(const float* x, std::size_t count, std::int8_t* q) {
  // As integers, magnitudes order like the floats do, with infinity and NaN above all others.
  Unsigned largest{};
  in_lanes(count, [&](std::size_t i, std::size_t some) INLINE {
    const Unsigned magnitude = (Unsigned)load(x + i, some) & 0x7FFFFFFF;
    largest = magnitude > largest ? magnitude : largest;
  });
  std::uint32_t most = 0;
  for (std::size_t k = 0; k < kLanes; ++k) most = largest[k] > most ? largest[k] : most;
  const float scale = __builtin_bit_cast(float, most) / 127.0f;
  if (scale == 0 || most >= 0x7F800000) {
    __builtin_memset(q, 0, count);
    return scale;
  }
  constexpr float kRound = 12582912.0f;  // as in exp; the division rounds too, hence the limits
  in_lanes(count, [&](std::size_t i, std::size_t some) INLINE {
    Lanes ratio = load(x + i, some) / scale;
    ratio = ratio > 127.0f ? Lanes{} + 127.0f : ratio < -127.0f ? Lanes{} - 127.0f : ratio;
    const Integers rounded = (Integers)(ratio + kRound) - __builtin_bit_cast(std::int32_t, kRound);
    store(q + i, __builtin_convertvector(rounded, Bytes), some);
  });
  return scale;
}

void rescale(const std::int32_t* integers, const float* scales, std::size_t groups, float q_scale,
             const float* bias, std::size_t rows, float* y) {
  in_lanes(rows, [&](std::size_t i, std::size_t some) INLINE {
    Lanes total = load(scales + i, some) * load(integers + i, some);
    for (std::size_t at = i + rows; at < groups * rows; at += rows) {
      total += load(scales + at, some) * load(integers + at, some);
    }
    const Lanes scaled = q_scale * total;
    store(y + i, bias ? scaled + load(bias + i, some) : scaled, some);
  });
}

void layer_norm(const float* x, const float* weight, const float* bias, std::size_t count, float* y) {
  const auto width = static_cast<float>(count);
  Lanes total{}, squares{};
  in_lanes(count, [&](std::size_t i, std::size_t some) INLINE { total += load(x + i, some); });
  const float mean = sum(total) / width;
  in_lanes(count, [&](std::size_t i, std::size_t some) INLINE {
    const Lanes away = only(load(x + i, some) - mean, some, 0);
    squares += away * away;
  });
  const float factor = 1.0f / __builtin_sqrtf(sum(squares) / width + 1e-5f);
  in_lanes(count, [&](std::size_t i, std::size_t some) INLINE {
    const Lanes normal = (load(x + i, some) - mean) * factor;
    store(y + i, normal * load(weight + i, some) + load(bias + i, some), some);
  });
}

void lstm(const float* a, const float* b, std::size_t count, float* hidden, float* cell) {
  in_lanes(count, [&](std::size_t i, std::size_t some) INLINE {
    Lanes gates[4];
    for (std::size_t k = 0; k < 4; ++k) {
      gates[k] = load(a + k * count + i, some) + load(b + k * count + i, some);
    }
    const Lanes after = sigmoid(gates[1]) * load(cell + i, some) + sigmoid(gates[0]) * tanh(gates[2]);
    store(cell + i, after, some);
    store(hidden + i, sigmoid(gates[3]) * tanh(after), some);
  });
}

void tanh_sum(const float* a, const float* b, std::size_t count, float* y) {
  in_lanes(count, [&](std::size_t i, std::size_t some) INLINE {
    store(y + i, tanh(load(a + i, some) + load(b + i, some)), some);
  });
}

float largest_of(const float* x, std::size_t count) {
  Lanes most = Lanes{} + x[0];
  in_lanes(count, [&](std::size_t i, std::size_t some) INLINE {
    const Lanes each = only(load(x + i, some), some, x[0]);
    most = each > most ? each : most;
  });
  float largest = most[0];
  for (std::size_t k = 1; k < kLanes; ++k) largest = most[k] > largest ? most[k] : largest;
  return largest;
}

void softmax(float* x, std::size_t count) {
  const float largest = largest_of(x, count);
  Lanes total{};
  in_lanes(count, [&](std::size_t i, std::size_t some) INLINE {
    const Lanes each = exp(load(x + i, some) - largest);
    total += only(each, some, 0);
    store(x + i, each, some);
  });
  const float whole = sum(total);
  in_lanes(count, [&](std::size_t i, std::size_t some) INLINE { store(x + i, load(x + i, some) / whole, some); });
}

double log_sum_exp(const float* x, std::size_t count) {
  const float largest = largest_of(x, count);
  Lanes total{};
  in_lanes(count, [&](std::size_t i, std::size_t some) INLINE {
    total += only(exp(load(x + i, some) - largest), some, 0);
  });
  return double{largest} + __builtin_log(double{sum(total)});
}

}  // namespace

#include "log_mel_body.hpp"

namespace {

constexpr FloatKernels kKernels{product<float>, product<std::uint16_t>, quantise, rescale,     layer_norm,
                                lstm,           tanh_sum,               softmax,  log_sum_exp, log_mel};

}  // namespace

#undef INLINE
