// Common parts of the AVX-512 kernels (VBMI, VBMI2, VNNI); each works on 64 columns at a time.
//
// vpdpbusd multiplies unsigned by signed bytes. Here the weights are the unsigned side: a code as it is
// stored (or codebook + 128), and the code of zero where nothing is stored. Every weight is then too large
// by the code of zero, and the product by code_of_zero * sum(q), which the end of each group takes off.
//
// Measured on Zen 5: when cold, prefetching two pages ahead, where the hardware's prefetcher does not reach, matters
// most. To prefetch the next matrix while one is multiplied gained nothing there, nor on Sapphire Rapids, where merely
// to read a small model from the last-level cache takes two thirds of its time.
//
// Included by files that are compiled with the same flags, and by no others: everything is local to each.
#pragma once

#include <immintrin.h>

#include "kernel_parts.hpp"

namespace edgespeech {

// Of a dense matrix of uniform codes of 4 bits in one group; what it needs of arrange_activations is the excess.
void multiply_halves_avx512(const Product& product);
void multiply_sparse_avx512(const Product& product);

namespace {

constexpr std::size_t kValuesAhead = 8192;  // bytes to prefetch ahead
constexpr std::uint32_t kBlock = 16;        // rows whose sums are added up together

enum class Codes { Bytes, Uniform, Table };  // 8 bits; 2 to 7 bits; 2 to 6 bits through a codebook

inline std::int32_t code_of_zero(const Product& p) { return p.codebook ? 128 : 1 << (p.bits - 1); }

struct Decoder {
  __m512i gather;  // vpermb: the b bytes that hold codes 8 k to 8 k + 7, to qword k
  __m512i shifts;  // vpmultishiftqb: each code to the low bits of its byte
  __m512i finish;  // Uniform: the mask of one code; Table: codebook + 128, repeated through the 64 bytes
  __m512i raise;   // Uniform: 128 less the code of zero; otherwise 0
};

inline Decoder make_decoder(const Product& p) {
  alignas(64) std::uint8_t gather[64], shifts[64], finish[64];
  const std::uint32_t code_mask = (1u << p.bits) - 1;
  for (std::uint32_t i = 0; i < 64; ++i) {
    gather[i] = static_cast<std::uint8_t>((i / 8 * p.bits + i % 8) % 64);
    shifts[i] = static_cast<std::uint8_t>(i % 8 * p.bits);
    finish[i] = static_cast<std::uint8_t>(p.codebook ? p.codebook[i & code_mask] + 128 : code_mask);
  }
  return {_mm512_load_si512(gather), _mm512_load_si512(shifts), _mm512_load_si512(finish),
          _mm512_set1_epi8(static_cast<char>(128 - code_of_zero(p)))};
}

[[gnu::always_inline]] inline void prefetch(const void* line) {
  _mm_prefetch(static_cast<const char*>(line), _MM_HINT_T0);
}

// The 64 codes that start at a byte, and whatever follows a row's end. Reads 64 bytes.
template <Codes kind>
[[gnu::always_inline]] inline __m512i decode(const Decoder& d, const std::uint8_t* values) {
  const __m512i raw = _mm512_loadu_si512(values);
  if constexpr (kind == Codes::Bytes) return raw;
  const __m512i codes = _mm512_multishift_epi64_epi8(d.shifts, _mm512_permutexvar_epi8(d.gather, raw));
  // vpermb reads the 6 lowest bits of an index: the table repeats, so the bits above a code do no harm.
  if constexpr (kind == Codes::Table) return _mm512_permutexvar_epi8(codes, d.finish);
  return _mm512_and_si512(codes, d.finish);
}

// The lanes of 16 rows become one sum a row in three steps, each of which adds what several vectors hold side by side:
// of two rows in every 128 bits two sums each, of four rows one each, then those of all 128 bits.
[[gnu::always_inline]] inline __m512i add_pair(__m512i a, __m512i b) {
  return _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
}

[[gnu::always_inline]] inline __m512i add_pairs(__m512i ab, __m512i cd) {
  return _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
}

[[gnu::always_inline]] inline __m512i add_four(const __m512i* rows) {
  return add_pairs(add_pair(rows[0], rows[1]), add_pair(rows[2], rows[3]));
}

[[gnu::always_inline]] inline __m512i add_fours(const __m512i* four) {
  const auto halves = [](__m512i a, __m512i b) __attribute__((always_inline)) {
    return _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x44), _mm512_shuffle_i32x4(a, b, 0xEE));
  };
  const __m512i a = halves(four[0], four[1]), b = halves(four[2], four[3]);
  return _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xDD));
}

constexpr std::uint32_t kFours = kBlock / 4;

// The sums of up to 16 rows, from the row-th on, without their excess, to p.out. fours: batch x 4, see `add_four`.
inline void store(const Product& p, std::uint32_t row, std::uint32_t rows, std::uint32_t group, const __m512i* fours) {
  const auto whole = static_cast<__mmask16>((1u << rows) - 1);
  for (std::size_t n = 0; n < p.batch; ++n) {
    const __m512i excess = _mm512_set1_epi32(p.excess[n * p.groups + group]);
    const __m512i products = _mm512_sub_epi32(add_fours(fours + n * kFours), excess);
    _mm512_mask_storeu_epi32(p.out + (n * p.groups + group) * p.rows + row, whole, products);
  }
}

// `work` with the kind of a product's codes.
template <typename Work>
inline void with_codes(const Product& p, const Work& work) {
  if (p.bits == 8) {
    work.template operator()<Codes::Bytes>();
  } else if (p.codebook) {
    work.template operator()<Codes::Table>();
  } else {
    work.template operator()<Codes::Uniform>();
  }
}

}  // namespace
}  // namespace edgespeech
