// AVX-512 kernel (VBMI, VBMI2, VNNI), 64 columns at a time.
//
// vpdpbusd multiplies unsigned by signed bytes. Here the weights are the unsigned side: a code as it is
// stored (or codebook + 128), and the code of zero where nothing is stored. Every weight is then too large
// by the code of zero, and the product by code_of_zero * sum(q), which the end of each group takes off.
//
// A sparse matrix goes through two stages, four rows at a time, the first one four rows ahead of the second,
// so that no load meets a store in flight. First the codes of a row go to a buffer in L1, a byte each: one
// walk through the values in their order, 64 codes a step. Then vpexpandb moves them to their columns, mask
// by mask. Four rows share the activations and make four independent sums. Of a block of zeros only the mask
// is read.
//
// Measured on Zen 5: when cold, prefetching two pages ahead, where the hardware's prefetcher does not reach,
// matters most, and rows must be read one after the other. Warm or cold, 4 bits with zeros are bound by the
// two stages, not by memory. vpexpandb is no slower from memory than from a register.
#include <immintrin.h>

#include "kernel_parts.hpp"

namespace edgespeech {
namespace {

constexpr std::size_t kValuesAhead = 8192;  // bytes to prefetch ahead
constexpr std::size_t kMasksAhead = 4096;

enum class Codes { Bytes, Uniform, Table };  // 8 bits; 2 to 7 bits; 2 to 6 bits through a codebook

struct Decoder {
  __m512i gather;  // vpermb: the b bytes that hold codes 8 k to 8 k + 7, to qword k
  __m512i shifts;  // vpmultishiftqb: each code to the low bits of its byte
  __m512i finish;  // Uniform: the mask of one code; Table: codebook + 128, repeated through the 64 bytes
};

Decoder make_decoder(const Product& p) {
  alignas(64) std::uint8_t gather[64], shifts[64], finish[64];
  const std::uint32_t code_mask = (1u << p.bits) - 1;
  for (std::uint32_t i = 0; i < 64; ++i) {
    gather[i] = static_cast<std::uint8_t>((i / 8 * p.bits + i % 8) % 64);
    shifts[i] = static_cast<std::uint8_t>(i % 8 * p.bits);
    finish[i] = static_cast<std::uint8_t>(p.codebook ? p.codebook[i & code_mask] + 128 : code_mask);
  }
  return {_mm512_load_si512(gather), _mm512_load_si512(shifts), _mm512_load_si512(finish)};
}

std::int32_t code_of_zero(const Product& p) { return p.codebook ? 128 : 1 << (p.bits - 1); }

// The 64 codes that start at a byte, and whatever follows a row's end. Reads 64 bytes.
template <Codes kind>
[[gnu::always_inline]] inline __m512i decode(const Decoder& d, const std::uint8_t* values) {
  _mm_prefetch(reinterpret_cast<const char*>(values) + kValuesAhead, _MM_HINT_T0);
  const __m512i raw = _mm512_loadu_si512(values);
  if constexpr (kind == Codes::Bytes) return raw;
  const __m512i codes = _mm512_multishift_epi64_epi8(d.shifts, _mm512_permutexvar_epi8(d.gather, raw));
  // vpermb reads the 6 lowest bits of an index: the table repeats, so the bits above a code do no harm.
  if constexpr (kind == Codes::Table) return _mm512_permutexvar_epi8(codes, d.finish);
  return _mm512_and_si512(codes, d.finish);
}

// The first stage: the codes of some rows to `to`, a byte each. Every row takes as many steps as the longest
// one (a loop that ends at random costs more than it saves), but none starts where the values end.
template <Codes kind, int rows>
[[gnu::always_inline]] inline void decode_rows(const Product& p, const Decoder& d, std::uint32_t row,
                                               std::int8_t* to) {
  const std::uint32_t* start = p.row_start + row;
  const std::size_t step = 8 * p.bits, stride = p.scratch_stride, total = p.row_start[p.rows];
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
      _mm512_store_si512(target, decode<kind>(d, values + at));
    }
  }
}

template <int batch, int rows>
[[gnu::always_inline]] inline void store(const Product& p, std::uint32_t row, std::uint32_t group,
                                         std::int32_t code_of_zero, const __m512i (&sum)[rows][batch]) {
  for (int n = 0; n < batch; ++n) {
    const std::int32_t excess = code_of_zero * p.q_sum[n * p.groups + group];
    std::int32_t* out = p.out + (n * std::size_t{p.rows} + row) * p.groups + group;
    for (int i = 0; i < rows; ++i) out[i * p.groups] = _mm512_reduce_add_epi32(sum[i][n]) - excess;
  }
}

// Rows `row` to `end`, a multiple of `rows`.
template <Codes kind, int batch, int rows>
void multiply_sparse(const Product& product, std::uint32_t row, std::uint32_t end) {
  if (row == end) return;
  const Product p = product;  // local: no store can change it
  const Decoder d = make_decoder(product);
  const std::int32_t zero_code = code_of_zero(product);
  const __m512i zero = _mm512_set1_epi8(static_cast<char>(zero_code));
  const std::size_t words = p.words;
  std::int8_t *buffer = p.scratch, *next = p.scratch + rows * p.scratch_stride;
  decode_rows<kind, rows>(p, d, row, buffer);
  for (; row < end; row += rows) {
    if (row + rows < end) decode_rows<kind, rows>(p, d, row + rows, next);
    const std::uint64_t* masks = p.masks + row * words;
    const std::int8_t* codes[rows];
    for (int i = 0; i < rows; ++i) codes[i] = buffer + i * p.scratch_stride;
    std::size_t word = 0;
    for (std::uint32_t group = 0; group < p.groups; ++group) {
      const std::size_t group_end = words - word < p.group_words ? words : word + p.group_words;
      __m512i sum[rows][batch];
      for (auto& sums : sum) {
        for (__m512i& each : sums) each = _mm512_setzero_si512();
      }
      for (; word < group_end; ++word) {
        _mm_prefetch(reinterpret_cast<const char*>(masks + word * rows) + kMasksAhead, _MM_HINT_T0);
        __m512i q[batch];
        for (int n = 0; n < batch; ++n) q[n] = _mm512_load_si512(p.q + (n * words + word) * 64);
#pragma GCC unroll 4
        for (int i = 0; i < rows; ++i) {
          const std::uint64_t mask = masks[i * words + word];
          const __m512i weights = _mm512_mask_expand_epi8(zero, mask, _mm512_loadu_si512(codes[i]));
          codes[i] += _mm_popcnt_u64(mask);
          for (int n = 0; n < batch; ++n) sum[i][n] = _mm512_dpbusd_epi32(sum[i][n], weights, q[n]);
        }
      }
      store(p, row, group, zero_code, sum);
    }
    std::int8_t* done = buffer;
    buffer = next;
    next = done;
  }
}

// One row after the other: a single walk through memory is what the hardware's prefetcher likes best.
template <Codes kind, int batch>
void multiply_dense(const Product& product) {
  constexpr int kSums = batch == 1 ? 4 : batch == 2 ? 2 : 1;  // of each vector, to hide their latency
  const Product p = product;
  const Decoder d = make_decoder(product);
  const std::int32_t zero_code = code_of_zero(product);
  const std::size_t words = p.words, step = 8 * p.bits;
  for (std::uint32_t row = 0; row < p.rows; ++row) {
    const std::uint8_t* values = p.values + p.row_start[row];
    std::size_t word = 0;
    for (std::uint32_t group = 0; group < p.groups; ++group) {
      const std::size_t group_end = words - word < p.group_words ? words : word + p.group_words;
      __m512i sum[kSums][1][batch];
      for (auto& sums : sum) {
        for (__m512i& each : sums[0]) each = _mm512_setzero_si512();
      }
      const auto add = [&](__m512i (&sums)[batch]) __attribute__((always_inline)) {
        const __m512i weights = decode<kind>(d, values);
        for (int n = 0; n < batch; ++n) {
          sums[n] = _mm512_dpbusd_epi32(sums[n], weights, _mm512_load_si512(p.q + (n * words + word) * 64));
        }
        values += step;
        ++word;
      };
      while (word + kSums <= group_end) {
#pragma GCC unroll 4
        for (int k = 0; k < kSums; ++k) add(sum[k][0]);
      }
      while (word < group_end) add(sum[0][0]);
      for (int k = 1; k < kSums; ++k) {
        for (int n = 0; n < batch; ++n) sum[0][0][n] = _mm512_add_epi32(sum[0][0][n], sum[k][0][n]);
      }
      store(p, row, group, zero_code, sum[0]);
    }
  }
}

template <Codes kind, int batch>
void multiply_rows(const Product& p) {
  if (!p.masks) return multiply_dense<kind, batch>(p);
  constexpr int kRows = batch <= 4 ? 4 : 2;  // by what the 32 registers hold
  static_assert(2 * kRows <= kScratchRows);
  const std::uint32_t whole = p.rows / kRows * kRows;
  multiply_sparse<kind, batch, kRows>(p, 0, whole);
  multiply_sparse<kind, batch, 1>(p, whole, p.rows);
}

template <Codes kind>
void dispatch(const Product& p) {
  switch (p.batch) {
    case 1: return multiply_rows<kind, 1>(p);
    case 2: return multiply_rows<kind, 2>(p);
    case 3: return multiply_rows<kind, 3>(p);
    case 4: return multiply_rows<kind, 4>(p);
    case 5: return multiply_rows<kind, 5>(p);
    case 6: return multiply_rows<kind, 6>(p);
    case 7: return multiply_rows<kind, 7>(p);
    default: return multiply_rows<kind, 8>(p);
  }
}

}  // namespace

void multiply_avx512(const Product& p) {
  if (p.bits == 8) return dispatch<Codes::Bytes>(p);
  if (p.codebook) return dispatch<Codes::Table>(p);
  dispatch<Codes::Uniform>(p);
}

}  // namespace edgespeech
