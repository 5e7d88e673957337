// AVX-512 kernel of dense matrices with two codes a byte.
#include "avx512_parts.hpp"

namespace edgespeech {
namespace {

// Two codes a byte: the lower ones of 64 bytes are the even columns of 128, the upper ones the odd ones. With the
// activations parted in the same way, a mask and a shift are all that decoding takes.
struct Halves {
  const std::int8_t* q;  // pairs of words x batch x 128: 64 even columns, then 64 odd ones
  std::uint32_t pairs;
};

Halves part_activations(const Product& p) {
  std::int8_t* const parted = p.scratch + std::size_t{p.words} * p.batch * 64;  // behind those of arrange_activations
  const std::uint32_t pairs = (p.words + 1) / 2;
  const auto bytes = [](__m512i words) __attribute__((always_inline)) { return _mm512_cvtepi16_epi8(words); };
  for (std::size_t n = 0; n < p.batch; ++n) {
    const std::int8_t* q = p.q + n * p.words * 64;
    for (std::uint32_t pair = 0; pair < pairs; ++pair, q += 128) {
      const __m512i first = _mm512_load_si512(q);
      const __m512i second = 2 * pair + 1 < p.words ? _mm512_load_si512(q + 64) : _mm512_setzero_si512();
      const __m512i even = _mm512_inserti64x4(_mm512_castsi256_si512(bytes(first)), bytes(second), 1);
      const __m512i odd = _mm512_inserti64x4(_mm512_castsi256_si512(bytes(_mm512_srli_epi16(first, 8))),
                                             bytes(_mm512_srli_epi16(second, 8)), 1);
      std::int8_t* const to = parted + (pair * p.batch + n) * 128;
      _mm512_store_si512(to, even);
      _mm512_store_si512(to + 64, odd);
    }
  }
  return {parted, pairs};
}

// The lanes of `rows` rows, from `values` on.
template <int batch, int rows>
[[gnu::always_inline]] inline void multiply_halves(const Halves& h, const std::uint8_t* values, std::size_t row_bytes,
                                                   std::size_t far, __m512i (&sum)[rows][batch]) {
  const __m512i mask = _mm512_set1_epi8(15);
  const std::int8_t* q = h.q;
  for (std::uint32_t pair = 0; pair < h.pairs; ++pair, values += 64, q += batch * 128) {
    __m512i even[batch], odd[batch];
    for (int n = 0; n < batch; ++n) {
      even[n] = _mm512_load_si512(q + n * 128);
      odd[n] = _mm512_load_si512(q + n * 128 + 64);
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
      prefetch(values + i * row_bytes + far);
      const __m512i raw = _mm512_loadu_si512(values + i * row_bytes);
      const __m512i low = _mm512_and_si512(raw, mask), high = _mm512_and_si512(_mm512_srli_epi16(raw, 4), mask);
      for (int n = 0; n < batch; ++n) {
        sum[i][n] = _mm512_dpbusd_epi32(sum[i][n], low, even[n]);
        sum[i][n] = _mm512_dpbusd_epi32(sum[i][n], high, odd[n]);
      }
    }
  }
}

// A dense matrix of uniform codes of 4 bits, in one group.
template <int batch>
void multiply_halves(const Product& p) {
  constexpr int kTall = batch == 1 ? 16 : batch <= 3 ? 4 : 2;  // by what the 32 registers hold
  const Halves h = part_activations(p);
  const std::size_t row_bytes = p.row_start[1];
  const std::size_t far = kBlock * row_bytes > kValuesAhead ? kBlock * row_bytes : kValuesAhead;
  for (std::uint32_t row = 0; row < p.rows; row += kBlock) {
    const std::uint32_t rows = p.rows - row < kBlock ? p.rows - row : kBlock;
    const std::uint8_t* values = p.values + p.row_start[row];
    __m512i lanes[batch][kBlock], fours[batch * kFours];
    std::uint32_t i = 0;
    for (; i + kTall <= rows; i += kTall, values += kTall * row_bytes) {
      __m512i sum[kTall][batch] = {};
      multiply_halves<batch, kTall>(h, values, row_bytes, far, sum);
      for (int k = 0; k < kTall; ++k)
        for (int n = 0; n < batch; ++n) lanes[n][i + k] = sum[k][n];
    }
    for (; i < rows; ++i, values += row_bytes) {
      __m512i sum[1][batch] = {};
      multiply_halves<batch, 1>(h, values, row_bytes, far, sum);
      for (int n = 0; n < batch; ++n) lanes[n][i] = sum[0][n];
    }
    for (int n = 0; n < batch; ++n) {
      for (i = rows; i < kBlock; ++i) lanes[n][i] = _mm512_setzero_si512();
      for (std::uint32_t k = 0; k < kFours; ++k) fours[n * kFours + k] = add_four(lanes[n] + 4 * k);
    }
    store(p, row, rows, 0, fours);
  }
}

}  // namespace

void multiply_halves_avx512(const Product& p) {
  switch (p.batch) {
    case 1: return multiply_halves<1>(p);
    case 2: return multiply_halves<2>(p);
    case 3: return multiply_halves<3>(p);
    case 4: return multiply_halves<4>(p);
    case 5: return multiply_halves<5>(p);
    case 6: return multiply_halves<6>(p);
    case 7: return multiply_halves<7>(p);
    default: return multiply_halves<8>(p);
  }
}

}  // namespace edgespeech
