// The float kernels for AVX2 with F16C.
#include <immintrin.h>

#include "floats.hpp"

namespace edgespeech {
namespace {

using Lanes = float __attribute__((vector_size(64)));
using Unaligned = float __attribute__((vector_size(64), aligned(4), may_alias));
constexpr std::size_t kTileVectors = 1;  // that 4 rows are multiplied with at once: what the registers hold

inline Lanes widen(const std::uint16_t* from) {
  const auto* halves = reinterpret_cast<const __m128i*>(from);
  const __m256 low = _mm256_cvtph_ps(_mm_loadu_si128(halves));
  const __m256 high = _mm256_cvtph_ps(_mm_loadu_si128(halves + 1));
  return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

}  // namespace

#include "floats_body.hpp"

const FloatKernels kFloatsAvx2 = kKernels;

}  // namespace edgespeech
