// Products of a packed matrix with int8 activations, exact in int32, by the best kernel of this CPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "packed.hpp"

namespace edgespeech {

enum class Isa { Scalar, Avx2, Avx512, Neon };
constexpr Isa kIsas[] = {Isa::Scalar, Isa::Avx2, Isa::Avx512, Isa::Neon};
constexpr std::size_t kMaxBatch = 8;

const char* name(Isa isa);             // "scalar", "avx2", "avx512", "neon"
Isa isa_named(std::string_view name);  // throws std::invalid_argument for any other name
bool available(Isa isa);               // compiled in, and this CPU has it

// The best of this CPU, or the one that the environment variable EDGESPEECH_ISA names; read once.
// Throws std::invalid_argument when that is no name, or this CPU lacks it.
Isa chosen_isa();

// 64 columns.
struct alignas(64) Line {
  std::int8_t bytes[64];
};

// Scratch memory of a product; reused by the next one, so that it is allocated once.
struct Scratch {
  std::vector<Line> lines;
  std::vector<std::int32_t> excess;
};

// out[n, g, r] = sum over the columns c of group g of int8weight[r, c] * q[n, c].
// q: batch x cols, values -127..127 (never -128), batch 1..8. out: batch x groups x rows.
// Any number of threads may call at once, each with its own scratch. Throws std::invalid_argument for a batch out of
// range, and for an ISA that is not available.
void multiply(Isa isa, const PackedMatrix& matrix, const std::int8_t* q, std::size_t batch, std::int32_t* out,
              Scratch& scratch);

// A matrix in other memory than the file's: a sparse one as a dense one of bytes, for several products in a row, or a
// copy for all of them.
struct Unpacked {
  PackedMatrix packed;
  std::vector<Line> lines;
};

// Whether products go faster with a copy of the matrix, which is larger: of an ISA that takes long to decode it.
bool copy_helps(Isa isa, const PackedMatrix& matrix);

// Leaves in `to` what gives the same products as the matrix, for as long as its scales are there: two codes a byte, or
// one. Throws std::invalid_argument where that would not help.
void copy(Isa isa, const PackedMatrix& matrix, Unpacked& to, Scratch& scratch);

// Leaves in `to` what gives the same products as the matrix, for as long as neither changes.
// Throws std::invalid_argument for a dense matrix, and for an ISA that is not available.
void unpack(Isa isa, const PackedMatrix& matrix, Unpacked& to, Scratch& scratch);

}  // namespace edgespeech
