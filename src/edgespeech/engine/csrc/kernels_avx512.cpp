// AVX-512 kernel: the choice of its parts, and dense matrices.
//
// The 16 lanes of a sum are added up for 16 rows at once, by a tree of shuffles: for the short rows of a small model,
// adding them row by row would take longer than the products. The first half of the tree follows every few rows, while
// they are in registers.
#include "avx512_parts.hpp"

namespace edgespeech {
namespace {

constexpr std::uint32_t kLongestShort = 2048;  // bytes of rows that are taken some at a time
constexpr std::uint32_t kMostNarrow = 8;       // words of rows of bytes whose vector stays in registers

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
  // Bytes need no decoding, only reading, which is fastest in their order.
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

}  // namespace

void multiply_avx512(const Product& p) {
  arrange_activations(p);
  if (p.masks) return multiply_sparse_avx512(p);
  if (p.bits == 4 && !p.codebook && p.groups == 1) return multiply_halves_avx512(p);
  with_codes(p, [&]<Codes kind>() { multiply_dense<kind>(p); });
}

}  // namespace edgespeech
