// AArch64 kernel, with the dot product instruction where the CPU has it. Each row: its codes to a byte each,
// these to their columns, then its products.
#include <arm_neon.h>
#if defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include "kernel_parts.hpp"

namespace edgespeech {
namespace {

constexpr int kAhead = 4096;  // bytes of the values to prefetch ahead

// Turns 16 codes to int8 weights.
//
// Every code lies within two bytes. tbl brings these to a 16-bit lane, 8 codes at a time; one shift moves the
// code to the lane's top, another one down.
struct Decoder {
  uint8x16_t gather;
  int16x8_t up, down;
  uint8x16_t offset;  // 2^(bits - 1), for uniform codes
  int8x16x4_t table;  // the codebook
  bool uniform;

  explicit Decoder(const Product& p) : uniform(p.codebook == nullptr) {
    std::uint8_t indices[16];
    std::int16_t shifts[8];
    std::int8_t entries[64] = {};
    for (std::uint32_t i = 0; i < 8; ++i) {
      const std::uint32_t bit = i * p.bits;
      indices[2 * i] = static_cast<std::uint8_t>(bit / 8);
      indices[2 * i + 1] = static_cast<std::uint8_t>(bit / 8 + 1);
      shifts[i] = static_cast<std::int16_t>(16 - p.bits - bit % 8);
    }
    for (std::uint32_t i = 0; !uniform && i < 1u << p.bits; ++i) entries[i] = p.codebook[i];
    gather = vld1q_u8(indices);
    up = vld1q_s16(shifts);
    down = vdupq_n_s16(static_cast<std::int16_t>(p.bits) - 16);
    offset = vdupq_n_u8(static_cast<std::uint8_t>(1u << (p.bits - 1)));
    for (int k = 0; k < 4; ++k) table.val[k] = vld1q_s8(entries + 16 * k);
  }

  // The weights of 16 codes of 8 bits.
  int8x16_t bytes(const std::uint8_t* from) const {
    return vreinterpretq_s8_u8(vsubq_u8(vld1q_u8(from), offset));
  }

  // The 8 codes at `from`. Reads 16 bytes.
  uint8x8_t codes(const std::uint8_t* from) const {
    const uint16x8_t pairs = vreinterpretq_u16_u8(vqtbl1q_u8(vld1q_u8(from), gather));
    return vmovn_u16(vshlq_u16(vshlq_u16(pairs, up), down));
  }

  int8x16_t operator()(const std::uint8_t* from, std::uint32_t bits) const {
    const uint8x16_t sixteen = vcombine_u8(codes(from), codes(from + bits));
    return uniform ? vreinterpretq_s8_u8(vsubq_u8(sixteen, offset)) : vqtbl4q_s8(table, sixteen);
  }
};

// The stored weights of a row, densely. Reads at most 23 bytes beyond its end.
void decode_row(const Product& p, const Decoder& decoder, std::uint32_t row, std::int8_t* to) {
  const std::uint8_t* const end = p.values + p.row_start[row + 1];
  for (const std::uint8_t* from = p.values + p.row_start[row]; from < end; from += 2 * p.bits, to += 16) {
    __builtin_prefetch(from + kAhead);
    vst1q_s8(to, p.bits == 8 ? decoder.bytes(from) : decoder(from, p.bits));
  }
}

// The stored weights to their columns, 8 columns at a time, and zeros between.
void expand_row(const Product& p, std::uint32_t row, const std::int8_t* from, std::int8_t* to) {
  const std::uint64_t* masks = p.masks + std::size_t{row} * p.words;
  for (std::uint32_t word = 0; word < p.words; ++word) {
    std::uint64_t mask = masks[word];
    if (mask == 0) {
      for (int k = 0; k < 4; ++k, to += 16) vst1q_s8(to, vdupq_n_s8(0));
      continue;
    }
    for (int k = 0; k < 8; ++k, mask >>= 8, to += 8) {
      const int8x8_t index = vreinterpret_s8_u8(vld1_u8(kExpand.index[mask & 255]));
      vst1_s8(to, vtbl1_s8(vld1_s8(from), index));
      from += kExpand.count[mask & 255];
    }
  }
}

using Dot = std::int32_t (*)(const std::int8_t* weights, const std::int8_t* q, std::size_t columns);

// |weight| <= 128 and |q| <= 127: a sum of two products stays inside int16.
std::int32_t dot_by_pairs(const std::int8_t* weights, const std::int8_t* q, std::size_t columns) {
  int32x4_t sum = vdupq_n_s32(0);
  for (std::size_t c = 0; c < columns; c += 16) {
    const int8x16_t w = vld1q_s8(weights + c), a = vld1q_s8(q + c);
    const int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(a));
    sum = vpadalq_s16(sum, vmlal_s8(low, vget_high_s8(w), vget_high_s8(a)));
  }
  return vaddvq_s32(sum);
}

[[gnu::target("arch=armv8.2-a+dotprod")]]
std::int32_t dot_by_fours(const std::int8_t* weights, const std::int8_t* q, std::size_t columns) {
  int32x4_t sum[4] = {vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)};
  for (std::size_t c = 0; c < columns; c += 64) {
    for (std::size_t k = 0; k < 4; ++k) {
      sum[k] = vdotq_s32(sum[k], vld1q_s8(weights + c + 16 * k), vld1q_s8(q + c + 16 * k));
    }
  }
  return vaddvq_s32(vaddq_s32(vaddq_s32(sum[0], sum[1]), vaddq_s32(sum[2], sum[3])));
}

Dot choose_dot() {
#if defined(__linux__)
  if (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) return dot_by_fours;
#endif
  return dot_by_pairs;
}

}  // namespace

void multiply_neon(const Product& p) {
  static const Dot dot = choose_dot();
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

void unpack_neon(const Product& p, std::uint8_t* to) {
  const Decoder decoder(p);
  const uint8x16_t raise = vdupq_n_u8(128);
  const std::size_t width = std::size_t{p.words} * 64;
  std::int8_t *const stored = p.scratch, *const weights = stored + width + 64;
  for (std::uint32_t row = 0; row < p.rows; ++row) {
    decode_row(p, decoder, row, stored);
    expand_row(p, row, stored, weights);
    for (std::size_t c = 0; c < width; c += 16, to += 16)
      vst1q_u8(to, vaddq_u8(vreinterpretq_u8_s8(vld1q_s8(weights + c)), raise));
  }
}

}  // namespace edgespeech
