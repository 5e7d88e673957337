// AVX2 kernel. Rows of two codes a byte, and of a code a byte, are multiplied where they lie; of all others, codes
// become a byte each, these go to their columns, then to their products.
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

constexpr std::uint32_t kBlock = 8;  // rows whose sums are added up together
constexpr std::size_t kMostTogether = 4;  // vectors, by what the 16 registers hold

// How a row lies in memory: two codes a byte; codes of at most 6 or 7 bits a byte, or of 8; int8 weights.
//
// vpmaddubsw multiplies unsigned by signed bytes and adds up in pairs, which must stay below 2^15. Codes of up to 7
// bits are the unsigned side as they are: every weight is then too large by the code of zero, and the end takes off
// code_of_zero * sum(q). So many pairs may be added before they become wider: 8 of 4 bits, 2 of 6, 1 of 7. Of wider
// weights the magnitude is the unsigned side, and the activation takes the sign.
enum class Form { Halves, Six, Seven, Eight, Weights };

// Up to kBlock rows of a group, and the vectors for them.
struct Part {
  const std::uint8_t* values;
  std::size_t row_bytes;
  std::uint32_t rows, words;
  const std::int8_t* q;  // words x batch x 64
  __m256i* lanes;        // batch x kBlock
};

inline __m256i load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
inline __m256i widened(__m256i pairs) { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)); }

// A word of a row times each vector, in pairs: what may be added before it becomes wider is, else all of it is wider.
template <Form form, int batch>
[[gnu::always_inline]] inline void add_word(const std::uint8_t* values, const std::int8_t* q, __m256i* pairs,
                                            __m256i* sums) {
  if constexpr (form == Form::Halves) {
    const __m256i low = _mm256_set1_epi8(15), raw = load(values);
    const __m256i even = _mm256_and_si256(raw, low), odd = _mm256_and_si256(_mm256_srli_epi16(raw, 4), low);
    for (int n = 0; n < batch; ++n) {
      const __m256i both = _mm256_add_epi16(_mm256_maddubs_epi16(even, load(q + n * 64)),
                                            _mm256_maddubs_epi16(odd, load(q + n * 64 + 32)));
      pairs[n] = _mm256_add_epi16(pairs[n], both);
    }
    return;
  }
  __m256i w[2] = {load(values), load(values + 32)};
  __m256i size[2] = {w[0], w[1]};
  if constexpr (form == Form::Eight || form == Form::Weights) {
    for (int k = 0; k < 2; ++k) {
      if (form == Form::Eight) w[k] = _mm256_xor_si256(w[k], _mm256_set1_epi8(static_cast<char>(128)));
      size[k] = _mm256_abs_epi8(w[k]);
    }
  }
  for (int n = 0; n < batch; ++n) {
    __m256i a = load(q + n * 64), b = load(q + n * 64 + 32);
    if constexpr (form == Form::Eight || form == Form::Weights) {
      a = _mm256_sign_epi8(a, w[0]);
      b = _mm256_sign_epi8(b, w[1]);
    }
    const __m256i first = _mm256_maddubs_epi16(size[0], a), second = _mm256_maddubs_epi16(size[1], b);
    if constexpr (form == Form::Six) {
      sums[n] = _mm256_add_epi32(sums[n], widened(_mm256_add_epi16(first, second)));
    } else {
      sums[n] = _mm256_add_epi32(sums[n], _mm256_add_epi32(widened(first), widened(second)));
    }
  }
}

// fixed: the words of a row, or 0 for any number; a known one needs no loop.
template <Form form, int batch, std::uint32_t fixed = 0>
void multiply_part(const Part& part) {
  constexpr std::uint32_t kWords = 4;  // as many as the pairs of halves may be added of
  constexpr std::size_t kStep = form == Form::Halves ? 32 : 64;
  for (std::uint32_t row = 0; row < part.rows; ++row) {
    const std::uint8_t* values = part.values + row * part.row_bytes;
    const std::int8_t* q = part.q;
    __m256i sums[batch] = {};
#pragma GCC unroll 2
    for (std::uint32_t left = fixed ? fixed : part.words; left > 0;) {
      __m256i pairs[batch] = {};
      _mm_prefetch(reinterpret_cast<const char*>(values) + kAhead, _MM_HINT_T0);
      const auto add = [&]() __attribute__((always_inline)) {
        add_word<form, batch>(values, q, pairs, sums);
        values += kStep;
        q += batch * 64;
      };
      if (left >= kWords) {
#pragma GCC unroll 4
        for (std::uint32_t k = 0; k < kWords; ++k) add();
        left -= kWords;
      } else {
#pragma GCC unroll 4
        for (; left > 0; --left) add();
      }
      if constexpr (form == Form::Halves)
        for (int n = 0; n < batch; ++n) sums[n] = _mm256_add_epi32(sums[n], widened(pairs[n]));
    }
    for (int n = 0; n < batch; ++n) part.lanes[n * kBlock + row] = sums[n];
  }
}

// The lanes of eight rows become one sum a row.
inline __m256i add_lanes(const __m256i* rows) {
  const auto four = [](const __m256i* r) {
    return _mm256_hadd_epi32(_mm256_hadd_epi32(r[0], r[1]), _mm256_hadd_epi32(r[2], r[3]));
  };
  const __m256i low = four(rows), high = four(rows + 4);
  return _mm256_add_epi32(_mm256_permute2x128_si256(low, high, 0x20), _mm256_permute2x128_si256(low, high, 0x31));
}

// 64 activations as their row is multiplied with: those of even columns before those of odd ones, for halves.
template <Form form>
inline void arrange(const std::int8_t* from, std::int8_t* to) {
  const __m256i a = load(from), b = load(from + 32);
  auto* place = reinterpret_cast<__m256i*>(to);
  if constexpr (form == Form::Halves) {
    const __m256i byte = _mm256_set1_epi16(255);
    const __m256i even = _mm256_packus_epi16(_mm256_and_si256(a, byte), _mm256_and_si256(b, byte));
    const __m256i odd = _mm256_packus_epi16(_mm256_srli_epi16(a, 8), _mm256_srli_epi16(b, 8));
    _mm256_store_si256(place, _mm256_permute4x64_epi64(even, 0xD8));
    _mm256_store_si256(place + 1, _mm256_permute4x64_epi64(odd, 0xD8));
  } else {
    _mm256_store_si256(place, a);
    _mm256_store_si256(place + 1, b);
  }
}

std::int32_t sum_of(const std::int8_t* q, std::uint32_t words) {
  __m256i lanes[kBlock] = {};
  for (std::uint32_t i = 0; i < 2 * words; ++i)
    lanes[0] = _mm256_add_epi32(lanes[0], widened(_mm256_maddubs_epi16(_mm256_set1_epi8(1), load(q + 32 * i))));
  return _mm256_cvtsi256_si32(add_lanes(lanes));
}

// Where the rows of a product lie. Those that are no `Form` become int8 weights in `scratch`, block by block.
struct Rows {
  const Product& p;
  const Decoder* decoder;  // nullptr where they lie in the matrix
  std::int8_t* scratch;    // a row and a line, and kBlock rows
  std::size_t row_bytes;

  const std::uint8_t* block(std::uint32_t first, std::uint32_t count) const {
    if (decoder == nullptr) return p.values + std::size_t{first} * row_bytes;
    std::int8_t *const stored = scratch, *const weights = scratch + row_bytes + 64;
    for (std::uint32_t row = 0; row < count; ++row) {
      std::int8_t* const to = weights + row * row_bytes;
      decode_row(p, *decoder, first + row, p.masks ? stored : to);
      if (p.masks) expand_row(p, first + row, stored, to);
    }
    return reinterpret_cast<const std::uint8_t*>(weights);
  }
};

template <Form form, int batch>
void multiply_batch(const Product& p, const Rows& rows, std::size_t at) {
  constexpr std::size_t kStep = form == Form::Halves ? 32 : 64;
  const std::size_t width = std::size_t{p.words} * 64;
  std::int8_t* const q = p.scratch;
  for (std::uint32_t word = 0; word < p.words; ++word)
    for (int n = 0; n < batch; ++n) arrange<form>(p.q + (at + n) * width + word * 64, q + (word * batch + n) * 64);
  const std::int32_t zero = form == Form::Weights || form == Form::Eight ? 0 : 1 << (p.bits - 1);
  for (std::uint32_t g = 0; zero != 0 && g < p.groups; ++g) {
    const std::uint32_t first = g * p.group_words;
    const std::uint32_t words = p.words - first < p.group_words ? p.words - first : p.group_words;
    for (int n = 0; n < batch; ++n)
      p.excess[n * p.groups + g] = zero * sum_of(p.q + (at + n) * width + first * 64, words);
  }
  __m256i lanes[batch * kBlock];
  for (__m256i& each : lanes) each = _mm256_setzero_si256();
  for (std::uint32_t row = 0; row < p.rows; row += kBlock) {
    const std::uint32_t count = p.rows - row < kBlock ? p.rows - row : kBlock;
    const std::uint8_t* const values = rows.block(row, count);
    for (std::uint32_t g = 0, first = 0; g < p.groups; ++g, first += p.group_words) {
      const std::uint32_t words = p.words - first < p.group_words ? p.words - first : p.group_words;
      const Part part{values + first * kStep,           rows.row_bytes, count, words,
                      q + std::size_t{first} * batch * 64, lanes};
      switch (words) {  // the widths of models
        case 4: multiply_part<form, batch, 4>(part); break;
        case 5: multiply_part<form, batch, 5>(part); break;
        default: multiply_part<form, batch>(part);
      }
      for (int n = 0; n < batch; ++n) {
        std::int32_t* const out = p.out + ((at + n) * p.groups + g) * p.rows + row;
        const std::int32_t excess = zero == 0 ? 0 : p.excess[n * p.groups + g];
        const __m256i sums = _mm256_sub_epi32(add_lanes(lanes + n * kBlock), _mm256_set1_epi32(excess));
        if (count == kBlock) {
          _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), sums);
        } else {
          alignas(32) std::int32_t some[kBlock];
          _mm256_store_si256(reinterpret_cast<__m256i*>(some), sums);
          for (std::uint32_t i = 0; i < count; ++i) out[i] = some[i];
        }
      }
    }
  }
}

template <Form form>
void multiply_form(const Product& p, const Decoder* decoder) {
  const std::size_t width = std::size_t{p.words} * 64;
  // The matrix's own rows are equally long, being dense.
  const Rows rows{p, decoder, p.scratch + kMostTogether * width, decoder ? width : p.row_start[1]};
  constexpr void (*kByBatch[])(const Product&, const Rows&, std::size_t) = {
      multiply_batch<form, 1>, multiply_batch<form, 2>, multiply_batch<form, 3>, multiply_batch<form, 4>};
  for (std::size_t at = 0; at < p.batch; at += kMostTogether)
    kByBatch[(p.batch - at < kMostTogether ? p.batch - at : kMostTogether) - 1](p, rows, at);
}

}  // namespace

void multiply_avx2(const Product& p) {
  if (p.bytes) return p.bits < 7 ? multiply_form<Form::Six>(p, nullptr) : multiply_form<Form::Seven>(p, nullptr);
  if (!p.masks && !p.codebook && p.bits == 4) return multiply_form<Form::Halves>(p, nullptr);
  if (!p.masks && p.bits == 8) return multiply_form<Form::Eight>(p, nullptr);
  const Decoder decoder(p);
  multiply_form<Form::Weights>(p, &decoder);
}

void copy_avx2(const Product& p, std::uint32_t bits, std::uint8_t* to) {
  const Decoder decoder(p);
  const std::size_t width = std::size_t{p.words} * 64;
  const Rows rows{p, &decoder, p.scratch, width};
  const __m256i zero = _mm256_set1_epi8(static_cast<char>(1 << (bits - 1)));
  const __m256i factors = _mm256_set1_epi16(1 + (16 << 8));  // of the even and of the odd columns of halves
  for (std::uint32_t row = 0; row < p.rows; ++row) {
    const std::uint8_t* const weights = rows.block(row, 1);
    for (std::size_t at = 0; at < width; at += 64) {
      const __m256i a = _mm256_add_epi8(load(weights + at), zero), b = _mm256_add_epi8(load(weights + at + 32), zero);
      if (bits == 4) {
        // What lies behind the last column may be anything.
        const __m256i low = _mm256_set1_epi8(15), c = _mm256_and_si256(a, low), d = _mm256_and_si256(b, low);
        const __m256i both = _mm256_packus_epi16(_mm256_maddubs_epi16(c, factors), _mm256_maddubs_epi16(d, factors));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_permute4x64_epi64(both, 0xD8));
        to += 32;
      } else {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), a);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 32), b);
        to += 64;
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
