// The float kernels for any CPU, and the choice among all of them.
#include "floats.hpp"

#include <stdexcept>
#include <string>

namespace edgespeech {
namespace {

using Lanes = float __attribute__((vector_size(64)));
using Unaligned = float __attribute__((vector_size(64), aligned(4), may_alias));
constexpr std::size_t kTileVectors = 1;  // that 4 rows are multiplied with at once: what the registers hold

Lanes widen(const std::uint16_t* from) {
  Lanes lanes;
  for (int i = 0; i < 16; ++i) lanes[i] = half_to_float(from[i]);
  return lanes;
}

}  // namespace

#include "floats_body.hpp"

// Moved to a float's place, sign, exponent and fraction are those of a number 2^112 times too small, but for
// infinity and NaN, whose exponent is the largest one.
float half_to_float(std::uint16_t half) {
  const std::uint32_t magnitude = half & 0x7FFFu, sign = (half & 0x8000u) << 16;
  const float scaled = __builtin_bit_cast(float, magnitude << 13) * 0x1p112f;
  const std::uint32_t special = magnitude >= 0x7C00u ? 0x7F800000u : 0;
  return __builtin_bit_cast(float, __builtin_bit_cast(std::uint32_t, scaled) | special | sign);
}

const FloatKernels& float_kernels(Isa isa) {
  if (!available(isa)) {
    throw std::invalid_argument(std::string("isa: got '") + name(isa) + "', which this CPU lacks");
  }
#if defined(__x86_64__)
  if (isa == Isa::Avx512) return kFloatsAvx512;
  if (isa == Isa::Avx2 && __builtin_cpu_supports("f16c")) return kFloatsAvx2;
#endif
  return kKernels;
}

}  // namespace edgespeech
