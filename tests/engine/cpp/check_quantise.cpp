// Self-checking: quantise and rescale against plain loops and known values. Exits with 0, or 1 at the first failure.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <random>
#include <stdexcept>
#include <vector>

#include "quantise.hpp"

using namespace edgespeech;

namespace {

bool ok(bool condition, const char* what) {
  if (!condition) std::printf("check_quantise: %s\n", what);
  return condition;
}

bool equals_rint(const std::vector<float>& x) {
  float largest = 0;
  for (const float value : x) largest = std::max(largest, std::fabs(value));
  std::vector<std::int8_t> q(x.size(), 99);
  const float scale = quantise(x.data(), x.size(), q.data());
  if (!ok(scale == largest / 127.0f, "the scale is not max|x| / 127")) return false;
  for (std::size_t c = 0; c < x.size(); ++c) {
    const float ratio = scale == 0 ? 0 : std::clamp(x[c] / scale, -127.0f, 127.0f);
    if (!ok(q[c] == std::nearbyint(ratio), "a value is not rounded half to even")) return false;
  }
  return true;
}

bool quantises() {
  constexpr float tiny = std::numeric_limits<float>::denorm_min(), most = std::numeric_limits<float>::max();
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (const std::size_t cols : {1, 15, 16, 17, 1000}) {
    std::vector<float> x(cols);
    for (float& value : x) value = normal(random);
    if (!equals_rint(x)) return false;
  }
  // With a largest value of 127 the scale is 1: halves, both ways.
  return equals_rint({127, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, -0.0f, 126.5f, -126.5f}) &&
         equals_rint({0, -0.0f}) && equals_rint({-most, most / 2}) && equals_rint({tiny}) &&
         equals_rint({190 * tiny, -190 * tiny, 64 * tiny});
}

bool refuses(float value) {
  const float x[] = {1, value, 2};
  std::int8_t q[3];
  try {
    quantise(x, 3, q);
  } catch (const std::invalid_argument&) {
    return true;
  }
  return ok(false, "takes a value that is not finite");
}

bool rescales() {
  PackedMatrix matrix;
  matrix.rows = 2;
  matrix.cols = 130;
  matrix.group = 64;
  const float weight_scales[] = {1, 0.5f, 0.25f, 2, 3, 5};
  matrix.scales = weight_scales;
  const std::int32_t products[] = {4, 4, 4, 1, 1, 1, -8, 2, 4, 0, 0, -7};
  const float scales[] = {0.5f, 10};
  float y[4];
  rescale(matrix, products, scales, 2, y);
  return ok(y[0] == 3.5f && y[1] == 5 && y[2] == -60 && y[3] == -350, "rescale is wrong");
}

}  // namespace

int main() {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const bool good = quantises() && refuses(infinity) && refuses(-infinity) && refuses(std::nanf("")) && rescales();
  return good ? 0 : 1;
}
