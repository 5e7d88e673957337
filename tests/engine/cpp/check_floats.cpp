// Self-checking: the float kernels of one ISA against double arithmetic and known values, and, bit for bit, against
// those of any CPU: `check_floats ISA`. Exits with 0, 1 at the first failure, 77 when this CPU lacks the ISA. Meant
// for a build with sanitizers: every buffer has exactly its size.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "floats.hpp"
#include "log_mel.hpp"

using namespace edgespeech;

namespace {

constexpr std::size_t kCounts[] = {1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 320};
constexpr double kActivationError = 1e-6;  // of a sigmoid or tanh, absolute

using Floats = std::vector<float>;

Floats normal(std::size_t count, std::mt19937& random, float deviation = 1) {
  std::normal_distribution<float> distribution(0, deviation);
  Floats x(count);
  for (float& value : x) value = distribution(random);
  return x;
}

bool ok(bool condition, const char* what) {
  if (!condition) std::printf("check_floats: %s\n", what);
  return condition;
}

bool same(const Floats& a, const Floats& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

bool near(double found, double expected, double tolerance) { return std::fabs(found - expected) <= tolerance; }

// y of each batch at once and, with the same bits, of each vector alone.
template <typename Weight, typename Product>
bool multiplies(Product product, Product plain, const std::vector<Weight>& w, const Floats& exact, std::size_t rows,
                std::size_t cols, std::size_t batch, const Floats& x, const float* bias) {
  Floats y(batch * rows), other(y), single(rows);
  product(w.data(), rows, cols, x.data(), batch, bias, y.data());
  plain(w.data(), rows, cols, x.data(), batch, bias, other.data());
  if (!ok(same(y, other), "a product has other bits than that of any CPU")) return false;
  for (std::size_t n = 0; n < batch; ++n) {
    product(w.data(), rows, cols, x.data() + n * cols, 1, bias, single.data());
    if (!ok(std::equal(single.begin(), single.end(), y.data() + n * rows), "a batch changes a vector's product"))
      return false;
    for (std::size_t row = 0; row < rows; ++row) {
      double sum = bias ? bias[row] : 0, size = std::fabs(sum);
      for (std::size_t c = 0; c < cols; ++c) {
        sum += double{exact[row * cols + c]} * x[n * cols + c];
        size += std::fabs(double{exact[row * cols + c]} * x[n * cols + c]);
      }
      if (!ok(near(y[n * rows + row], sum, 1e-5 * size), "a product is wrong")) return false;
    }
  }
  return true;
}

bool products(const FloatKernels& kernels, const FloatKernels& plain, std::mt19937& random) {
  for (const std::size_t cols : kCounts) {
    for (const std::size_t rows : {1, 3, 4, 9}) {
      for (const std::size_t batch : {1, 3, 4, 8}) {
        const Floats w = normal(rows * cols, random), x = normal(batch * cols, random), bias = normal(rows, random);
        std::vector<std::uint16_t> halves(w.size());
        for (auto& half : halves) half = static_cast<std::uint16_t>(random() & 0xBBFF);  // below 2 in size
        Floats wide(halves.size());
        std::transform(halves.begin(), halves.end(), wide.begin(), half_to_float);
        for (const float* each : {bias.data(), static_cast<const float*>(nullptr)}) {
          if (!multiplies(kernels.product, plain.product, w, w, rows, cols, batch, x, each) ||
              !multiplies(kernels.product_half, plain.product_half, halves, wide, rows, cols, batch, x, each))
            return false;
        }
      }
    }
  }
  return true;
}

// Every half but NaN, through a product with 1.
bool halves(const FloatKernels& kernels) {
  const float one = 1;
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const std::uint32_t exponent = bits >> 10 & 31, fraction = bits & 1023;
    if (exponent == 31 && fraction != 0) continue;
    double value = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, int(exponent) - 25);
    if (exponent == 31) value = std::numeric_limits<double>::infinity();
    if (bits & 0x8000) value = -value;
    float found;
    kernels.product_half(&half, 1, 1, &one, 1, nullptr, &found);
    if (!ok(half_to_float(half) == value, "half_to_float is wrong")) return false;
    if (exponent != 31 && !ok(found == value, "a half is read wrong")) return false;
  }
  return true;
}

bool quantises(const FloatKernels& kernels, const Floats& x) {
  float largest = 0;
  for (const float value : x) largest = std::max(largest, std::fabs(value));
  std::vector<std::int8_t> q(x.size(), 99);
  const float scale = kernels.quantise(x.data(), x.size(), q.data());
  if (!ok(scale == largest / 127.0f, "the scale is not max|x| / 127")) return false;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float ratio = scale == 0 ? 0 : std::clamp(x[i] / scale, -127.0f, 127.0f);
    if (!ok(q[i] == std::nearbyint(ratio), "a value is not rounded half to even")) return false;
  }
  return true;
}

bool quantises(const FloatKernels& kernels, std::mt19937& random) {
  constexpr float tiny = std::numeric_limits<float>::denorm_min(), most = std::numeric_limits<float>::max();
  for (const std::size_t count : kCounts)
    if (!quantises(kernels, normal(count, random))) return false;
  for (const float wrong : {HUGE_VALF, -HUGE_VALF, std::nanf("")}) {
    for (const std::size_t place : {0, 17, 19}) {
      Floats x(20, 1.0f);
      x[place] = wrong;
      std::vector<std::int8_t> q(x.size(), 99);
      if (!ok(!std::isfinite(kernels.quantise(x.data(), x.size(), q.data())), "a wrong value goes unseen"))
        return false;
    }
  }
  // With a largest value of 127 the scale is 1: halves, both ways.
  return quantises(kernels, {127, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, -0.0f, 126.5f, -126.5f}) &&
         quantises(kernels, {0, -0.0f}) && quantises(kernels, {-most, most / 2}) && quantises(kernels, {tiny}) &&
         quantises(kernels, {190 * tiny, -190 * tiny, 64 * tiny});
}

// Each row's sum in its order, in floats.
bool rescales(const FloatKernels& kernels, std::mt19937& random) {
  for (const std::size_t groups : {1, 2, 5, 1024}) {
    for (const std::size_t rows : {1, 3, 16, 17, 1025}) {
      const Floats scales = normal(rows * groups, random), bias = normal(rows, random);
      std::vector<std::int32_t> integers(rows * groups);
      for (auto& each : integers) each = static_cast<std::int32_t>(random() % 2000001) - 1000000;
      Floats found(rows), expected(rows);
      for (const bool biased : {false, true}) {
        kernels.rescale(integers.data(), scales.data(), groups, 0.3f, biased ? bias.data() : nullptr, rows,
                        found.data());
        for (std::size_t row = 0; row < rows; ++row) {
          float total = 0;
          for (std::size_t i = row; i < groups * rows; i += rows)
            total += scales[i] * static_cast<float>(integers[i]);
          expected[row] = 0.3f * total + (biased ? bias[row] : 0);
        }
        if (!ok(found == expected, "rescale is wrong")) return false;
      }
    }
  }
  return true;
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

bool layers(const FloatKernels& kernels, const FloatKernels& plain, std::mt19937& random) {
  for (const std::size_t count : kCounts) {
    const Floats x = normal(count, random, 3), weight = normal(count, random), bias = normal(count, random);
    double mean = 0, variance = 0;
    for (const float value : x) mean += double{value} / count;
    for (const float value : x) variance += (value - mean) * (value - mean) / count;
    Floats y(count), other(count);
    kernels.layer_norm(x.data(), weight.data(), bias.data(), count, y.data());
    plain.layer_norm(x.data(), weight.data(), bias.data(), count, other.data());
    if (!ok(same(y, other), "layer_norm has other bits than that of any CPU")) return false;
    for (std::size_t i = 0; i < count; ++i) {
      const double expected = (x[i] - mean) / std::sqrt(variance + 1e-5) * weight[i] + bias[i];
      if (!ok(near(y[i], expected, 1e-5), "layer_norm is wrong")) return false;
    }

    const Floats a = normal(4 * count, random, 4), b = normal(4 * count, random, 4);
    const Floats before = normal(count, random);
    Floats cell = before, hidden(count), other_cell = before, other_hidden(count);
    kernels.lstm(a.data(), b.data(), count, hidden.data(), cell.data());
    plain.lstm(a.data(), b.data(), count, other_hidden.data(), other_cell.data());
    if (!ok(same(cell, other_cell) && same(hidden, other_hidden), "lstm has other bits than that of any CPU"))
      return false;
    for (std::size_t i = 0; i < count; ++i) {
      double gates[4];
      for (std::size_t k = 0; k < 4; ++k) gates[k] = a[k * count + i] + b[k * count + i];
      const double after = sigmoid(gates[1]) * before[i] + sigmoid(gates[0]) * std::tanh(gates[2]);
      const double out = sigmoid(gates[3]) * std::tanh(after);
      if (!ok(near(cell[i], after, 4e-6) && near(hidden[i], out, 4e-6), "lstm is wrong")) return false;
    }

    double sum = 0;
    for (const float value : x) sum += std::exp(double{value});
    const double found = kernels.log_sum_exp(x.data(), count);
    if (!ok(near(found, std::log(sum), 1e-6), "log_sum_exp is wrong")) return false;
    if (!ok(found == plain.log_sum_exp(x.data(), count), "log_sum_exp has other bits than that of any CPU"))
      return false;
    Floats shares = x, others = x;
    kernels.softmax(shares.data(), count);
    plain.softmax(others.data(), count);
    if (!ok(same(shares, others), "softmax has other bits than that of any CPU")) return false;
    for (std::size_t i = 0; i < count; ++i)
      if (!ok(near(shares[i], std::exp(x[i]) / sum, 1e-6), "softmax is wrong")) return false;
  }
  const Floats far = {-1000, -1000, -2000};
  return ok(near(kernels.log_sum_exp(far.data(), 3), -1000 + std::log(2), 1e-4), "log_sum_exp overflows");
}

// Frames of every loudness, one of silence, and one that overflows.
bool features(const FloatKernels& kernels, const FloatKernels& plain, std::mt19937& random) {
  for (const float size : {0.0f, 1e-20f, 1e-4f, 0.1f, 1.0f, 1e4f, 1e30f}) {
    const Floats frame = normal(LogMelTables::kFrame, random, size);
    Floats y(LogMelTables::kBands), other(LogMelTables::kBands);
    kernels.log_mel(log_mel_tables(), frame.data(), 0.1f * size, y.data());
    plain.log_mel(log_mel_tables(), frame.data(), 0.1f * size, other.data());
    if (size < 1e30f && !ok(same(y, other), "log_mel has other bits than that of any CPU")) return false;
    for (const float value : y) {
      if (!ok(std::isfinite(value) == (size < 1e30f), "log_mel is finite where it should not, or the reverse"))
        return false;
      const double floor = std::log(double{std::numeric_limits<float>::epsilon()});
      if (size == 0 && !ok(near(value, floor, 1e-6), "silence is not the floor")) return false;
    }
  }
  return true;
}

// Sigmoid and tanh from one end to the other, both as the kernels use them.
bool activations(const FloatKernels& kernels) {
  Floats x;
  for (float value = -100; value < 100; value += 0.001f) x.push_back(value);
  for (const float value : {0.0f, -0.0f, 1e-30f, -1e-8f, 3e38f, -3e38f}) x.push_back(value);
  const std::size_t count = x.size();
  const Floats zeros(4 * count);
  Floats y(count), cell(count, 0);
  kernels.tanh_sum(x.data(), zeros.data(), count, y.data());
  // With the other gates open, the new cell is the sigmoid of the input gate.
  Floats gates(4 * count, 50.0f);
  std::copy(x.begin(), x.end(), gates.begin());
  Floats hidden(count);
  kernels.lstm(gates.data(), zeros.data(), count, hidden.data(), cell.data());
  double tanh_error = 0, sigmoid_error = 0;
  for (std::size_t i = 0; i < count; ++i) {
    tanh_error = std::max(tanh_error, std::fabs(y[i] - std::tanh(double{x[i]})));
    sigmoid_error = std::max(sigmoid_error, std::fabs(cell[i] - sigmoid(x[i])));
  }
  std::printf("largest error: tanh %.2g, sigmoid %.2g\n", tanh_error, sigmoid_error);
  return ok(tanh_error <= kActivationError && sigmoid_error <= kActivationError, "an activation is wrong");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 1;
  const Isa isa = isa_named(argv[1]);
  if (!available(isa)) return 77;
  const FloatKernels& kernels = float_kernels(isa);
  const FloatKernels& plain = float_kernels(Isa::Scalar);
  std::mt19937 random(1);
  const bool good = products(kernels, plain, random) && halves(kernels) && quantises(kernels, random) &&
                    rescales(kernels, random) && layers(kernels, plain, random) &&
                    features(kernels, plain, random) && activations(kernels);
  return good ? 0 : 1;
}
