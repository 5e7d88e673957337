// AVX-512 kernel (VBMI, VBMI2, VNNI), 64 columns at a time.
//
// vpdpbusd multiplies unsigned by signed bytes. Here the weights are the unsigned side: a code as it is
// stored (or codebook + 128), and the code of zero where nothing is stored. Every weight is then too large
// by the code of zero, and the product by code_of_zero * sum(q), which the end of each group takes off.
//
// The 16 lanes of a sum of a dense matrix are added up for 16 rows at once, by a tree of shuffles: for the short
// rows of a small model, adding them row by row would take longer than the products. The first half of the tree follows
// every few rows, while they are in registers.
//
// vpexpandb moves what is stored of a sparse matrix to its columns, mask by mask: from a buffer in L1, where codes are
// a byte each. One walk through the values in their order fills that, 64 codes a step, some rows ahead, so that no load
// meets a store in flight. Short rows of bytes are read where they are. Some rows at a time share the activations and
// make independent sums. Of a block of zeros only the mask is read.
//
// What several products in a row need, as each step of an LSTM does its recurrent weights, is written out as bytes once.
// At 1280 x 320 with 50 % zeros (Sapphire Rapids) that takes as long as one sparse product, whatever the bits: it is the
// writing to L2 that takes it; and each dense product after it a quarter.
//
// Measured on Zen 5: when cold, prefetching two pages ahead, where the hardware's prefetcher does not reach, matters
// most; vpexpandb takes a cycle, from memory as from a register. To prefetch the next matrix while one is multiplied
// gained nothing there, nor on Sapphire Rapids, where merely to read a small model from the last-level cache takes two
// thirds of its time.
#include <immintrin.h>

#include "kernel_parts.hpp"

namespace edgespeech {
namespace {

constexpr std::size_t kValuesAhead = 8192;  // bytes to prefetch ahead
constexpr std::size_t kMasksAhead = 4096;
constexpr std::uint32_t kBlock = 16;           // rows whose sums are added up together
constexpr std::uint32_t kLongestShort = 2048;  // bytes of dense rows that are taken some at a time
constexpr std::uint32_t kMostNarrow = 8;       // words of dense rows of bytes whose vector stays in registers
constexpr std::uint32_t kMostTall = 8;         // words of sparse rows that are taken 8 at a time
constexpr std::uint32_t kMostDirect = 16;      // words of sparse rows of bytes that are read where they are

enum class Codes { Bytes, Uniform, Table };  // 8 bits; 2 to 7 bits; 2 to 6 bits through a codebook

std::int32_t code_of_zero(const Product& p) { return p.codebook ? 128 : 1 << (p.bits - 1); }

struct Decoder {
  __m512i gather;  // vpermb: the b bytes that hold codes 8 k to 8 k + 7, to qword k
  __m512i shifts;  // vpmultishiftqb: each code to the low bits of its byte
  __m512i finish;  // Uniform: the mask of one code; Table: codebook + 128, repeated through the 64 bytes
  __m512i raise;   // Uniform: 128 less the code of zero; otherwise 0
};

Decoder make_decoder(const Product& p) {
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

// The activations to p.scratch, word by word, in each the vectors one after the other; and code_of_zero * their sum
// over each group to p.excess.
void arrange_activations(const Product& p) {
  const __m512i ones = _mm512_set1_epi8(1);
  const std::int32_t zero_code = code_of_zero(p);
  const std::int8_t* q = p.q;
  for (std::size_t n = 0; n < p.batch; ++n) {
    for (std::uint32_t group = 0, word = 0; group < p.groups; ++group) {
      __m512i sum = _mm512_setzero_si512();
      for (std::uint32_t k = 0; k < p.group_words && word < p.words; ++k, ++word, q += 64) {
        const __m512i columns = _mm512_load_si512(q);
        sum = _mm512_dpbusd_epi32(sum, ones, columns);
        _mm512_store_si512(p.scratch + (word * p.batch + n) * 64, columns);
      }
      p.excess[n * p.groups + group] = zero_code * _mm512_reduce_add_epi32(sum);
    }
  }
}

constexpr std::uint32_t kFours = kBlock / 4;

// The sums of up to 16 rows, from the row-th on, without their excess, to p.out. fours: batch x 4, see `add_four`.
void store(const Product& p, std::uint32_t row, std::uint32_t rows, std::uint32_t group, const __m512i* fours) {
  const auto whole = static_cast<__mmask16>((1u << rows) - 1);
  for (std::size_t n = 0; n < p.batch; ++n) {
    const __m512i excess = _mm512_set1_epi32(p.excess[n * p.groups + group]);
    const __m512i products = _mm512_sub_epi32(add_fours(fours + n * kFours), excess);
    _mm512_mask_storeu_epi32(p.out + (n * p.groups + group) * p.rows + row, whole, products);
  }
}

// Up to 16 rows of the columns of a group, of a dense matrix.
struct Part {
  std::uint32_t rows;
  std::uint32_t words;
  const std::int8_t* q;        // words x batch x 64
  const std::uint8_t* values;  // from the first column on
  std::size_t row_bytes;
  std::size_t code_bits;
};

// Functions of their own, so that their loops have all registers. Each writes the products of a part to `fours`,
// batch x 4.
using MultiplyPart = void (*)(const Part& part, const Decoder& d, __m512i* fours);

// Row by row. sums: of each vector, so that one need not wait for another.
template <Codes kind, int batch, int sums>
void multiply_long(const Part& part, const Decoder& d, __m512i* fours) {
  const std::size_t step = 8 * part.code_bits, row_bytes = part.row_bytes;
  const std::uint32_t words = part.words, rows = part.rows;
  const std::int8_t* const first = part.q;
  const std::uint8_t* values_of_row = part.values;
  __m512i lanes[batch][kBlock];
  for (std::uint32_t row = 0; row < rows; ++row, values_of_row += row_bytes) {
    __m512i sum[sums][batch] = {};
    const std::int8_t* q = first;
    const std::uint8_t* values = values_of_row;
    const auto add = [&](__m512i (&to)[batch]) __attribute__((always_inline)) {
      prefetch(values + kValuesAhead);
      const __m512i weights = decode<kind>(d, values);
      for (int n = 0; n < batch; ++n) to[n] = _mm512_dpbusd_epi32(to[n], weights, _mm512_load_si512(q + n * 64));
      values += step;
      q += batch * 64;
    };
    std::uint32_t left = words;
    if constexpr (sums > 1) {
      for (; left > sums; left -= sums) {
#pragma GCC unroll 4
        for (auto& each : sum) add(each);
      }
    }
    do {
      add(sum[0]);
    } while (--left > 0);
    for (int n = 0; n < batch; ++n) {
      for (int k = 1; k < sums; ++k) sum[0][n] = _mm512_add_epi32(sum[0][n], sum[k][n]);
      lanes[n][row] = sum[0][n];
    }
  }
  for (int n = 0; n < batch; ++n) {
    for (std::uint32_t row = rows; row < kBlock; ++row) lanes[n][row] = _mm512_setzero_si512();
    for (std::uint32_t k = 0; k < kFours; ++k) fours[n * kFours + k] = add_four(lanes[n] + 4 * k);
  }
}

// Some of 16 rows at a time, word by word: less to do for each row, and its sums need not wait for one another.
template <Codes kind, int batch>
void multiply_short(const Part& part, const Decoder& d, __m512i* fours) {
  constexpr int kTall = batch == 1 ? 16 : batch == 2 ? 8 : batch <= 5 ? 4 : 2;  // by what the 32 registers hold
  constexpr int kRows = kTall < 4 ? 4 : kTall;
  const std::size_t step = 8 * part.code_bits, row_bytes = part.row_bytes;
  const std::size_t far = kBlock * row_bytes > kValuesAhead ? kBlock * row_bytes : kValuesAhead;
  for (std::uint32_t row = 0; row < kBlock; row += kRows) {
    __m512i pairs[kRows / 2][batch];
#pragma GCC unroll 2
    for (int top = 0; top < kRows; top += kTall) {
      __m512i sum[kTall][batch] = {};
      const std::int8_t* q = part.q;
      const std::uint8_t* first = part.values + (row + top) * row_bytes;
      for (std::uint32_t word = 0; word < part.words; ++word, first += step, q += batch * 64) {
        const std::uint8_t* values = first;
        __m512i columns[batch];
        for (int n = 0; n < batch; ++n) columns[n] = _mm512_load_si512(q + n * 64);
#pragma GCC unroll 16
        for (int i = 0; i < kTall; ++i, values += row_bytes) {
          prefetch(values + far);
          const __m512i weights = decode<kind>(d, values);
          for (int n = 0; n < batch; ++n) sum[i][n] = _mm512_dpbusd_epi32(sum[i][n], weights, columns[n]);
        }
      }
#pragma GCC unroll 8
      for (int i = 0; i < kTall; i += 2) {
        for (int n = 0; n < batch; ++n) pairs[(top + i) / 2][n] = add_pair(sum[i][n], sum[i + 1][n]);
      }
    }
#pragma GCC unroll 4
    for (int k = 0; k < kRows / 4; ++k) {
      for (int n = 0; n < batch; ++n) fours[n * kFours + row / 4 + k] = add_pairs(pairs[2 * k][n], pairs[2 * k + 1][n]);
    }
  }
}

// For whole blocks of rows, and for the rest.
struct Parts {
  MultiplyPart whole, rest;
};

template <Codes kind>
Parts choose_parts(const Product& p) {
  constexpr MultiplyPart kLong[] = {multiply_long<kind, 1, 4>, multiply_long<kind, 2, 2>, multiply_long<kind, 3, 1>,
                                    multiply_long<kind, 4, 1>, multiply_long<kind, 5, 1>, multiply_long<kind, 6, 1>,
                                    multiply_long<kind, 7, 1>, multiply_long<kind, 8, 1>};
  constexpr MultiplyPart kShort[] = {multiply_short<kind, 1>, multiply_short<kind, 2>, multiply_short<kind, 3>,
                                     multiply_short<kind, 4>, multiply_short<kind, 5>, multiply_short<kind, 6>,
                                     multiply_short<kind, 7>, multiply_short<kind, 8>};
  const std::size_t n = p.batch - 1;
  // Bytes need no decoding: what is left is reading them, which goes best in their order.
  if (kind == Codes::Bytes && p.group_words >= 8) return {kLong[n], kLong[n]};
  if (kind == Codes::Bytes && n == 0 && p.group_words > 1) return {multiply_long<kind, 1, 1>, kLong[n]};
  if (p.row_start[1] > kLongestShort) return {kLong[n], kLong[n]};
  return {kShort[n], kLong[n]};
}

// Whole blocks of short rows of bytes times one vector, which is in registers for all of them: every row takes a step
// a word and no more, and a block's sums are added up where they are. Returns how many rows that were.
template <int words>
std::uint32_t multiply_narrow(const Product& p) {
  __m512i q[words];
  for (int k = 0; k < words; ++k) q[k] = _mm512_load_si512(p.scratch + k * 64);
  const __m512i excess = _mm512_set1_epi32(p.excess[0]);
  const std::size_t row_bytes = p.row_start[1];
  const std::uint8_t* values = p.values;
  std::int32_t* out = p.out;
  const std::uint32_t whole = p.rows / kBlock * kBlock;
  for (std::uint32_t row = 0; row < whole; row += kBlock, out += kBlock) {
    __m512i sum[kBlock];
#pragma GCC unroll 16
    for (std::uint32_t i = 0; i < kBlock; ++i, values += row_bytes) {
      sum[i] = _mm512_setzero_si512();
#pragma GCC unroll 8
      for (int k = 0; k < words; ++k) {
        prefetch(values + k * 64 + kValuesAhead);
        sum[i] = _mm512_dpbusd_epi32(sum[i], _mm512_loadu_si512(values + k * 64), q[k]);
      }
    }
    const __m512i fours[kFours] = {add_four(sum), add_four(sum + 4), add_four(sum + 8), add_four(sum + 12)};
    _mm512_storeu_si512(out, _mm512_sub_epi32(add_fours(fours), excess));
  }
  return whole;
}

std::uint32_t multiply_narrow(const Product& p) {
  switch (p.words) {
    case 1: return multiply_narrow<1>(p);
    case 2: return multiply_narrow<2>(p);
    case 3: return multiply_narrow<3>(p);
    case 4: return multiply_narrow<4>(p);
    case 5: return multiply_narrow<5>(p);
    case 6: return multiply_narrow<6>(p);
    case 7: return multiply_narrow<7>(p);
    default: return multiply_narrow<8>(p);
  }
}

template <Codes kind>
void multiply_dense(const Product& p) {
  std::uint32_t done = 0;
  if (kind == Codes::Bytes && p.batch == 1 && p.groups == 1 && p.words <= kMostNarrow) done = multiply_narrow(p);
  const Parts parts = choose_parts<kind>(p);
  const Decoder decoder = make_decoder(p);
  __m512i fours[8 * kFours];
  Part part{};
  part.row_bytes = p.row_start[1];
  part.code_bits = p.bits;
  for (std::uint32_t row = done; row < p.rows; row += kBlock) {
    part.rows = p.rows - row < kBlock ? p.rows - row : kBlock;
    for (std::uint32_t group = 0, first = 0; group < p.groups; ++group, first += part.words) {
      part.words = p.words - first < p.group_words ? p.words - first : p.group_words;
      part.q = p.scratch + first * p.batch * 64;
      part.values = p.values + p.row_start[row] + std::size_t{first} * 8 * p.bits;
      (part.rows == kBlock ? parts.whole : parts.rest)(part, decoder, fours);
      store(p, row, part.rows, group, fours);
    }
  }
}

// The codes of some rows to `to`, a byte each. Every row takes as many steps as the longest one (a loop that ends at
// random costs more than it saves), but none starts where the values end.
template <Codes kind, int rows>
[[gnu::always_inline]] inline void decode_rows(const Product& p, const Decoder& d, std::uint32_t row,
                                               std::int8_t* to) {
  const std::uint32_t* start = p.row_start + row;
  const std::size_t step = 8 * p.bits, stride = std::size_t{p.words + 1} * 64, total = p.row_start[p.rows];
  const std::uint8_t* const values = p.values;
  std::size_t longest = 0;
  for (int i = 0; i < rows; ++i) {
    const std::size_t bytes = start[i + 1] - start[i];
    longest = bytes > longest ? bytes : longest;
  }
  for (int i = 0; i < rows; ++i) {
    const std::size_t end = start[i] + longest < total ? start[i] + longest : total;
    std::int8_t* target = to + i * stride;
    for (std::size_t at = start[i]; at < end; at += step, target += 64) {
      prefetch(values + at + kValuesAhead);
      _mm512_store_si512(target, decode<kind>(d, values + at));
    }
  }
}

// Rows `row` to `end`, a multiple of `rows`. direct: bytes, from where they are.
template <Codes kind, bool direct, int batch, int rows>
void multiply_sparse(const Product& product, std::uint32_t row, std::uint32_t end) {
  if (row == end) return;
  const Product p = product;  // local: no store can change it
  const Decoder d = make_decoder(product);
  const __m512i zero = _mm512_set1_epi8(static_cast<char>(code_of_zero(product)));
  const std::size_t words = p.words, stride = (words + 1) * 64;
  const std::uint8_t* const last = p.values + p.row_start[p.rows] - 1;
  std::int8_t *buffer = p.scratch + words * batch * 64, *next = buffer + rows * stride;
  if constexpr (!direct) decode_rows<kind, rows>(p, d, row, buffer);
  for (; row < end; row += rows) {
    const std::uint64_t* masks = p.masks + row * words;
    const std::uint8_t* codes[rows];
    if constexpr (direct) {
      for (int i = 0; i < rows; ++i) codes[i] = p.values + p.row_start[row + i];
      const std::uint8_t* const next_rows = p.values + p.row_start[row + rows];
      for (const std::uint8_t* line = codes[0]; line < next_rows; line += 64) prefetch(line + kValuesAhead);
    } else {
      if (row + rows < end) decode_rows<kind, rows>(p, d, row + rows, next);
      for (int i = 0; i < rows; ++i) codes[i] = reinterpret_cast<const std::uint8_t*>(buffer + i * stride);
    }
    const std::int8_t* q = p.scratch;
    std::size_t word = 0;
    for (std::uint32_t group = 0; group < p.groups; ++group) {
      const std::size_t group_end = words - word < p.group_words ? words : word + p.group_words;
      __m512i sum[rows][batch] = {};
      for (; word < group_end; ++word, q += batch * 64) {
        prefetch(reinterpret_cast<const char*>(masks + word * rows) + kMasksAhead);
        __m512i columns[batch];
        for (int n = 0; n < batch; ++n) columns[n] = _mm512_load_si512(q + n * 64);
#pragma GCC unroll 8
        for (int i = 0; i < rows; ++i) {
          const std::uint64_t mask = masks[i * words + word];
          const std::uint8_t* from = codes[i];
          if constexpr (direct) from = from < last ? from : last;  // after the last code, too, there may be masks
          const __m512i weights = _mm512_mask_expand_epi8(zero, mask, _mm512_loadu_si512(from));
          codes[i] += _mm_popcnt_u64(mask);
          for (int n = 0; n < batch; ++n) sum[i][n] = _mm512_dpbusd_epi32(sum[i][n], weights, columns[n]);
        }
      }
      for (int n = 0; n < batch; ++n) {
        const std::int32_t excess = p.excess[n * p.groups + group];
        std::int32_t* out = p.out + (n * std::size_t{p.groups} + group) * p.rows + row;
        for (int i = 0; i < rows; ++i) out[i] = _mm512_reduce_add_epi32(sum[i][n]) - excess;
      }
    }
    std::int8_t* done = buffer;
    buffer = next;
    next = done;
  }
}

template <Codes kind, bool direct, int batch>
void multiply_sparse(const Product& p) {
  constexpr int kRows = batch <= 4 ? 4 : 2;  // by what the 32 registers hold
  std::uint32_t row = 0;
  if constexpr (batch == 1) {
    if (p.words <= kMostTall) row = p.rows / 8 * 8;
    multiply_sparse<kind, direct, batch, 8>(p, 0, row);
  }
  const std::uint32_t whole = p.rows / kRows * kRows;
  multiply_sparse<kind, direct, batch, kRows>(p, row, whole);
  multiply_sparse<kind, direct, batch, 1>(p, whole, p.rows);
}

template <Codes kind, bool direct>
void multiply_sparse(const Product& p) {
  switch (p.batch) {
    case 1: return multiply_sparse<kind, direct, 1>(p);
    case 2: return multiply_sparse<kind, direct, 2>(p);
    case 3: return multiply_sparse<kind, direct, 3>(p);
    case 4: return multiply_sparse<kind, direct, 4>(p);
    case 5: return multiply_sparse<kind, direct, 5>(p);
    case 6: return multiply_sparse<kind, direct, 6>(p);
    case 7: return multiply_sparse<kind, direct, 7>(p);
    default: return multiply_sparse<kind, direct, 8>(p);
  }
}

template <Codes kind>
void multiply_kind(const Product& p) {
  if (!p.masks) return multiply_dense<kind>(p);
  if constexpr (kind == Codes::Bytes) {
    if (p.words <= kMostDirect) return multiply_sparse<kind, true>(p);
  }
  multiply_sparse<kind, false>(p);
}

// Rows `row` to `end`, a multiple of `rows`, by way of a buffer as in `multiply_sparse`.
template <Codes kind, int rows>
void unpack_sparse(const Product& product, std::uint32_t row, std::uint32_t end, std::uint8_t* to) {
  if (row == end) return;
  const Product p = product;
  const Decoder d = make_decoder(product);
  const __m512i zero = _mm512_set1_epi8(static_cast<char>(code_of_zero(product)));
  const std::size_t words = p.words, stride = (words + 1) * 64;
  std::int8_t *buffer = p.scratch, *next = buffer + rows * stride;
  decode_rows<kind, rows>(p, d, row, buffer);
  to += row * words * 64;
  for (; row < end; row += rows, to += rows * words * 64) {
    if (row + rows < end) decode_rows<kind, rows>(p, d, row + rows, next);
    const std::uint64_t* masks = p.masks + row * words;
    const std::int8_t* codes[rows];
    for (int i = 0; i < rows; ++i) codes[i] = buffer + i * stride;
    for (std::size_t word = 0; word < words; ++word) {
      prefetch(reinterpret_cast<const char*>(masks + word * rows) + kMasksAhead);
#pragma GCC unroll 8
      for (int i = 0; i < rows; ++i) {
        const std::uint64_t mask = masks[i * words + word];
        const __m512i weights = _mm512_mask_expand_epi8(zero, mask, _mm512_loadu_si512(codes[i]));
        codes[i] += _mm_popcnt_u64(mask);
        _mm512_store_si512(to + (i * words + word) * 64, _mm512_add_epi8(weights, d.raise));
      }
    }
    std::int8_t* done = buffer;
    buffer = next;
    next = done;
  }
}

template <Codes kind>
void unpack_kind(const Product& p, std::uint8_t* to) {
  constexpr std::uint32_t kRows = 8;
  const std::uint32_t whole = p.rows / kRows * kRows;
  unpack_sparse<kind, kRows>(p, 0, whole, to);
  unpack_sparse<kind, 1>(p, whole, p.rows, to);
}

}  // namespace

void multiply_avx512(const Product& p) {
  arrange_activations(p);
  if (p.bits == 8) return multiply_kind<Codes::Bytes>(p);
  if (p.codebook) return multiply_kind<Codes::Table>(p);
  multiply_kind<Codes::Uniform>(p);
}

void unpack_avx512(const Product& p, std::uint8_t* to) {
  if (p.bits == 8) return unpack_kind<Codes::Bytes>(p, to);
  if (p.codebook) return unpack_kind<Codes::Table>(p, to);
  unpack_kind<Codes::Uniform>(p, to);
}

}  // namespace edgespeech
