// The float kernels for AVX-512.
#include <immintrin.h>

#include "floats.hpp"

namespace edgespeech {
namespace {

using Lanes = float __attribute__((vector_size(64)));
using Unaligned = float __attribute__((vector_size(64), aligned(4), may_alias));
constexpr std::size_t kTileVectors = 4;  // that 4 rows are multiplied with at once: what the registers hold

inline Lanes widen(const std::uint16_t* from) {
  return _mm512_maskz_cvtph_ps(0xFFFF, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}

}  // namespace

#include "floats_body.hpp"

const FloatKernels kFloatsAvx512 = kKernels;

}  // namespace edgespeech
