// The log-mel kernel, for `floats_body.hpp` to include: see there.
//
// A transform of 256 complex values is one of 16 x 16: in lanes of 16 every step but the transposition is straight.
// Radix 4, decimation in time, and the order of operations are those of KissFFT as kaldi-native-fbank 1.23 compiles it,
// so that a rounding there is a rounding here.
namespace {

constexpr std::size_t kHalf = LogMelTables::kHalf;

struct Complex {
  Lanes re, im;
};

// The product of two complex numbers, its real part as the products that it is the difference of.
struct Product {
  Lanes re_re, im_im, im;
};

inline Complex load(const float* re, const float* im) { return {load(re), load(im)}; }
inline Product times(const Complex& a, const Complex& b) {
  return {a.re * b.re, a.im * b.im, a.re * b.im + a.im * b.re};
}
inline Product times_one(const Complex& a) { return {a.re, Lanes{}, a.im}; }

// The discrete Fourier transform of four values, in `to[0]`, `to[step]` and so on.
inline void transform_4(const Complex& a, const Product& b, const Product& c, const Product& d, Complex* to,
                        std::size_t step) {
  const Complex sum{(a.re + c.re_re) - c.im_im, a.im + c.im};
  const Complex difference{(a.re + c.im_im) - c.re_re, a.im - c.im};
  const Lanes b_re = b.re_re - b.im_im;
  const Complex others{(b_re - d.im_im) + d.re_re, b.im + d.im};
  const Lanes other_re = (b_re - d.re_re) + d.im_im;
  to[0] = {sum.re + others.re, sum.im + others.im};
  to[step] = {(difference.re + b.im) - d.im, difference.im - other_re};
  to[2 * step] = {sum.re - others.re, sum.im - others.im};
  to[3 * step] = {(difference.re + d.im) - b.im, difference.im + other_re};
}

// Sixteen values of each of four transforms, `apart` from one to the next, become sixteen of each quarter of one,
// `step` from one to the next. The second to fourth are multiplied with roots, `width` from one to the next.
inline void combine(const float* re, const float* im, std::size_t apart, const float* root_re, const float* root_im,
                    std::size_t width, float* to_re, float* to_im, std::size_t step) {
  const auto product = [&](std::size_t i) INLINE {
    return times(load(re + i * apart, im + i * apart),
                 load(root_re + (i - 1) * width, root_im + (i - 1) * width));
  };
  Complex x[4];
  transform_4(load(re, im), product(1), product(2), product(3), x, 1);
  for (std::size_t i = 0; i < 4; ++i) {
    store(to_re + i * step, x[i].re, kLanes);
    store(to_im + i * step, x[i].im, kLanes);
  }
}

// The transform of each column of 16 x 16 values.
inline void transform_columns(const LogMelTables& tables, const float* re, const float* im, float* to_re,
                              float* to_im) {
  const auto row = [&](std::size_t number) INLINE { return load(re + number * kLanes, im + number * kLanes); };
  Complex x[4][4];
  for (std::size_t i = 0; i < 4; ++i) {
    transform_4(row(i), times_one(row(i + 4)), times_one(row(i + 8)), times_one(row(i + 12)), &x[0][i], 4);
  }
  for (std::size_t k = 0; k < 4; ++k) {
    const auto product = [&](std::size_t i) INLINE {
      const std::size_t root = 16 * i * k;
      return times(x[k][i], {Lanes{} + tables.root_re[root], Lanes{} + tables.root_im[root]});
    };
    Complex y[4];
    transform_4(x[k][0], product(1), product(2), product(3), y, 1);
    for (std::size_t i = 0; i < 4; ++i) {
      store(to_re + (k + 4 * i) * kLanes, y[i].re, kLanes);
      store(to_im + (k + 4 * i) * kLanes, y[i].im, kLanes);
    }
  }
}

// The transform of 256 values.
inline void transform(const LogMelTables& tables, float* re, float* im) {
  float other_re[kHalf], other_im[kHalf];
  transform_columns(tables, re, im, other_re, other_im);
  for (std::size_t row = 0; row < kLanes; ++row) {
    for (std::size_t column = 0; column < kLanes; ++column) {
      re[row * kLanes + column] = other_re[column * kLanes + row];
      im[row * kLanes + column] = other_im[column * kLanes + row];
    }
  }
  for (std::size_t i = 0; i < 4; ++i) {
    combine(re + i * kLanes, im + i * kLanes, 4 * kLanes, tables.re_64, tables.im_64, 16, other_re + i * 64,
            other_im + i * 64, 16);
  }
  for (std::size_t k = 0; k < 64; k += kLanes) {
    combine(other_re + k, other_im + k, 64, tables.re_256 + k, tables.im_256 + k, 64, re + k, im + k, 64);
  }
}

// 512 windowed samples, the even ones as real and the odd ones as imaginary parts; zeros behind the frame.
inline void windowed(const LogMelTables& tables, const float* frame, float mean, float* re, float* im) {
  constexpr std::size_t kFrame = LogMelTables::kFrame;
  float delayed[kFrame], sharp[2 * kHalf] = {};
  delayed[0] = frame[0];  // before the first sample is another such one
  __builtin_memcpy(delayed + 1, frame, (kFrame - 1) * sizeof(float));
  for (std::size_t i = 0; i < kFrame; i += kLanes) {
    const Lanes sample = load(frame + i) - mean, before = load(delayed + i) - mean;
    store(sharp + i, (sample - LogMelTables::kPreEmphasis * before) * load(tables.window + i), kLanes);
  }
  for (std::size_t i = 0; i < kHalf; ++i) {
    re[i] = sharp[2 * i];
    im[i] = sharp[2 * i + 1];
  }
}

// The power of the 256 lower frequencies of 512 samples, from the transform of them as 256 complex values.
inline void power_of(const LogMelTables& tables, const float* re, const float* im, float* power) {
  float mirrored_re[kHalf], mirrored_im[kHalf];
  mirrored_re[0] = re[0];
  mirrored_im[0] = im[0];
  for (std::size_t k = 1; k < kHalf; ++k) {
    mirrored_re[k] = re[kHalf - k];
    mirrored_im[k] = im[kHalf - k];
  }
  for (std::size_t k = 0; k < kHalf; k += kLanes) {
    const Complex a = load(re + k, im + k), b = load(mirrored_re + k, mirrored_im + k);
    const Complex even{a.re + b.re, a.im - b.im}, odd{a.re - b.re, a.im + b.im};  // twice the halves' transforms
    const Product turned = times(odd, load(tables.re_512 + k, tables.im_512 + k));
    const Lanes re_twice = k < kHalf / 2 ? (even.re + turned.re_re) - turned.im_im
                                         : (even.re - turned.im_im) + turned.re_re;
    const Lanes x = 0.5f * re_twice, y = 0.5f * (even.im + turned.im);
    store(power + k, x * x + y * y, kLanes);
  }
}

// The natural logarithm of finite numbers of at least FLT_MIN; others stay as they are. x = 2^n * m with m near 1, and
// log(m) = 2 artanh((m - 1) / (m + 1)) by its series.
inline Lanes log(Lanes x) {
  constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;  // n times the former is exact
  constexpr std::uint32_t kHalfRoot = 0x3F3504F3;  // sqrt(1 / 2), as an integer
  const Unsigned above = (Unsigned)x - kHalfRoot;
  const Lanes n = __builtin_convertvector((Integers)above >> 23, Lanes);
  const Lanes m = (Lanes)((above & 0x007FFFFF) + kHalfRoot);
  const Lanes s = (m - 1.0f) / (m + 1.0f), square = s * s;
  Lanes series = Lanes{} + 2.0f / 9;
  for (const float factor : {2.0f / 7, 2.0f / 5, 2.0f / 3, 2.0f}) series = series * square + factor;
  const Lanes found = n * kLn2High + (n * kLn2Low + s * series);
  return x <= __FLT_MAX__ ? found : x;
}

void log_mel(const LogMelTables& tables, const float* frame, float mean, float* to) {
  float re[kHalf], im[kHalf], power[kHalf];
  windowed(tables, frame, mean, re, im);
  transform(tables, re, im);
  power_of(tables, re, im, power);
  const float* weight = tables.weights;
  for (std::size_t band = 0; band < LogMelTables::kBands; ++band) {
    const float* from = power + tables.first[band];
    float energy = 0;
    for (std::size_t i = 0; i < tables.count[band]; ++i) energy += *weight++ * from[i];
    to[band] = energy;
  }
  in_lanes(LogMelTables::kBands, [&](std::size_t i, std::size_t some) INLINE {
    const Lanes energy = load(to + i, some);
    store(to + i, log(energy < __FLT_EPSILON__ ? Lanes{} + __FLT_EPSILON__ : energy), some);
  });
}

}  // namespace
