// AVX2 kernel. Each row: its codes to a byte each, these to their columns, then its products.
#include <immintrin.h>

#include "kernel_parts.hpp"

namespace edgespeech {
namespace {

constexpr int kAhead = 4096;  // bytes of the values to prefetch ahead

// Turns 32 codes to int8 weights.
//
// Every code lies within two bytes. vpshufb brings these to a word (codes 0 to 7 in the lower half of the
// register, 8 to 15 in the upper), a multiplication shifts the code to the word's top, and a shift brings it
// down.
struct Decoder {
  __m256i gather, scale;
  __m128i drop;      // 16 - bits
  __m256i offset;    // 2^(bits - 1), for uniform codes
  __m256i table[4];  // the codebook, 16 entries each
  int tables;        // 0: uniform

  explicit Decoder(const Product& p) {
    alignas(32) std::uint8_t indices[32];
    alignas(32) std::uint16_t factors[16];
    alignas(16) std::int8_t entries[4][16] = {};
    for (std::uint32_t i = 0; i < 16; ++i) {
      const std::uint32_t bit = i % 8 * p.bits, byte = i / 8 * p.bits + bit / 8;
      indices[2 * i] = static_cast<std::uint8_t>(byte);
      indices[2 * i + 1] = static_cast<std::uint8_t>(byte < 15 ? byte + 1 : 255);
      factors[i] = static_cast<std::uint16_t>(1u << (16 - p.bits - bit % 8));
    }
    gather = _mm256_load_si256(reinterpret_cast<const __m256i*>(indices));
    scale = _mm256_load_si256(reinterpret_cast<const __m256i*>(factors));
    drop = _mm_cvtsi32_si128(static_cast<int>(16 - p.bits));
    offset = _mm256_set1_epi8(static_cast<char>(1 << (p.bits - 1)));
    tables = p.codebook ? ((1 << p.bits) + 15) / 16 : 0;
    for (int i = 0; p.codebook && i < 1 << p.bits; ++i) entries[i / 16][i % 16] = p.codebook[i];
    for (int k = 0; k < 4; ++k) {
      table[k] = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(entries[k])));
    }
  }

  // The weights of 32 codes of 8 bits.
  __m256i bytes(const std::uint8_t* from) const {
    return _mm256_sub_epi8(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)), offset);
  }

  // The words of the 16 codes at `from`. Reads 16 bytes.
  __m256i words(const std::uint8_t* from) const {
    const __m128i raw = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    const __m256i pairs = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(raw), gather);
    return _mm256_srl_epi16(_mm256_mullo_epi16(pairs, scale), drop);
  }

  __m256i operator()(const std::uint8_t* from, std::uint32_t bits) const {
    const __m256i packed = _mm256_packus_epi16(words(from), words(from + 2 * bits));
    const __m256i codes = _mm256_permute4x64_epi64(packed, 0xD8);
    if (tables == 0) return _mm256_sub_epi8(codes, offset);
    __m256i weights = _mm256_setzero_si256();
    for (int k = 0; k < tables; ++k) {
      // 0x70 to 0x7F for the codes of this table; 0x80 or more, for which vpshufb gives 0, for all others.
      const __m256i index = _mm256_sub_epi8(codes, _mm256_set1_epi8(static_cast<char>(16 * k)));
      const __m256i guarded = _mm256_adds_epu8(index, _mm256_set1_epi8(0x70));
      weights = _mm256_or_si256(weights, _mm256_shuffle_epi8(table[k], guarded));
    }
    return weights;
  }
};

// The stored weights of a row, densely. Reads at most 31 bytes beyond its end.
void decode_row(const Product& p, const Decoder& decoder, std::uint32_t row, std::int8_t* to) {
  const std::uint8_t* const end = p.values + p.row_start[row + 1];
  for (const std::uint8_t* from = p.values + p.row_start[row]; from < end; from += 4 * p.bits, to += 32) {
    _mm_prefetch(reinterpret_cast<const char*>(from) + kAhead, _MM_HINT_T0);
    const __m256i weights = p.bits == 8 ? decoder.bytes(from) : decoder(from, p.bits);
    _mm256_store_si256(reinterpret_cast<__m256i*>(to), weights);
  }
}

// The stored weights to their columns, 8 columns at a time, and zeros between.
void expand_row(const Product& p, std::uint32_t row, const std::int8_t* from, std::int8_t* to) {
  const std::uint64_t* masks = p.masks + std::size_t{row} * p.words;
  for (std::uint32_t word = 0; word < p.words; ++word) {
    std::uint64_t mask = masks[word];
    if (mask == 0) {
      _mm256_store_si256(reinterpret_cast<__m256i*>(to), _mm256_setzero_si256());
      _mm256_store_si256(reinterpret_cast<__m256i*>(to + 32), _mm256_setzero_si256());
      to += 64;
      continue;
    }
    for (int k = 0; k < 8; ++k, mask >>= 8, to += 8) {
      const __m128i index = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(kExpand.index[mask & 255]));
      const __m128i stored = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
      _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm_shuffle_epi8(stored, index));
      from += kExpand.count[mask & 255];
    }
  }
}

// The product of 32 weights and activations, in pairs. |weight| <= 128 and |q| <= 127, so that no sum of two
// products reaches 2^15, where vpmaddubsw would saturate.
__m256i pairs(const std::int8_t* weights, const std::int8_t* q) {
  const __m256i w = _mm256_load_si256(reinterpret_cast<const __m256i*>(weights));
  const __m256i a = _mm256_load_si256(reinterpret_cast<const __m256i*>(q));
  const __m256i products = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(a, w));
  return _mm256_madd_epi16(products, _mm256_set1_epi16(1));
}

std::int32_t dot(const std::int8_t* weights, const std::int8_t* q, std::size_t columns) {
  __m256i even = _mm256_setzero_si256(), odd = _mm256_setzero_si256();
  for (std::size_t c = 0; c < columns; c += 64) {
    even = _mm256_add_epi32(even, pairs(weights + c, q + c));
    odd = _mm256_add_epi32(odd, pairs(weights + c + 32, q + c + 32));
  }
  const __m256i eight = _mm256_add_epi32(even, odd);
  const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4E));
  return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xB1)));
}

}  // namespace

void multiply_avx2(const Product& p) {
  const Decoder decoder(p);
  const std::size_t width = std::size_t{p.words} * 64, group_width = std::size_t{p.group_words} * 64;
  std::int8_t* const stored = p.scratch;
  std::int8_t* const weights = p.masks ? p.scratch + width + 64 : stored;
  for (std::uint32_t row = 0; row < p.rows; ++row) {
    decode_row(p, decoder, row, stored);
    if (p.masks) expand_row(p, row, stored, weights);
    for (std::size_t n = 0; n < p.batch; ++n) {
      std::int32_t* out = p.out + n * p.groups * p.rows + row;
      for (std::size_t first = 0; first < width; first += group_width) {
        const std::size_t columns = width - first < group_width ? width - first : group_width;
        *out = dot(weights + first, p.q + n * width + first, columns);
        out += p.rows;
      }
    }
  }
}

void unpack_avx2(const Product& p, std::uint8_t* to) {
  const Decoder decoder(p);
  const __m256i raise = _mm256_set1_epi8(static_cast<char>(128));
  const std::size_t width = std::size_t{p.words} * 64;
  std::int8_t *const stored = p.scratch, *const weights = stored + width + 64;
  for (std::uint32_t row = 0; row < p.rows; ++row) {
    decode_row(p, decoder, row, stored);
    expand_row(p, row, stored, weights);
    for (std::size_t c = 0; c < width; c += 32, to += 32) {
      const __m256i each = _mm256_load_si256(reinterpret_cast<const __m256i*>(weights + c));
      _mm256_store_si256(reinterpret_cast<__m256i*>(to), _mm256_add_epi8(each, raise));
    }
  }
}

}  // namespace edgespeech
