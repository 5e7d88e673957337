// AVX-512 kernel of sparse matrices.
//
// vpexpandb moves what is stored to its columns, mask by mask: from a buffer in L1, where codes are a byte each. One
// walk through the values in their order fills that, 64 codes a step, some rows ahead, so that no load meets a store in
// flight. Short rows of bytes are read where they are. Some rows at a time share the activations and make independent
// sums. Of a block of zeros only the mask is read. (On Zen 5 vpexpandb takes a cycle, from memory as from a register.)
//
// What several products in a row need, as each step of an LSTM does its recurrent weights, is written out as bytes once.
// At 1280 x 320 with 50 % zeros (Sapphire Rapids) that takes as long as one sparse product, whatever the bits: it is the
// writing to L2 that takes it; and each dense product after it a quarter.
#include "avx512_parts.hpp"

namespace edgespeech {
namespace {

constexpr std::size_t kMasksAhead = 4096;   // bytes to prefetch ahead
constexpr std::uint32_t kMostTall = 8;      // words of rows that are taken 8 at a time
constexpr std::uint32_t kMostDirect = 16;   // words of rows of bytes that are read where they are

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

// The lanes of up to 16 sums together, vector after vector: in short rows this takes as long as the products.
template <int rows, int batch>
[[gnu::always_inline]] inline void add_up(const __m512i (&sum)[rows][batch], std::int32_t* to) {
  constexpr int kSums = rows * batch;
  static_assert(kSums <= static_cast<int>(kBlock));
  __m512i all[kBlock], fours[kFours];
#pragma GCC unroll 16
  for (int k = 0; k < static_cast<int>(kBlock); ++k)
    all[k] = k < kSums ? sum[k % rows][k / rows] : _mm512_setzero_si512();
#pragma GCC unroll 4
  for (int k = 0; k < static_cast<int>(kFours); ++k)
    fours[k] = 4 * k < kSums ? add_four(all + 4 * k) : _mm512_setzero_si512();
  _mm512_store_si512(to, add_fours(fours));
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
      alignas(64) std::int32_t sums[kBlock];
      add_up<rows, batch>(sum, sums);
      for (int n = 0; n < batch; ++n) {
        const std::int32_t excess = p.excess[n * p.groups + group];
        std::int32_t* out = p.out + (n * std::size_t{p.groups} + group) * p.rows + row;
        for (int i = 0; i < rows; ++i) out[i] = sums[n * rows + i] - excess;
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
void multiply_sparse_kind(const Product& p) {
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

void multiply_sparse_avx512(const Product& p) {
  with_codes(p, [&]<Codes kind>() { multiply_sparse_kind<kind>(p); });
}

void unpack_avx512(const Product& p, std::uint8_t* to) {
  with_codes(p, [&]<Codes kind>() { unpack_kind<kind>(p, to); });
}

}  // namespace edgespeech
