// Memory of one call, and what it read of the file's tensors.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "edge_file.hpp"
#include "kernels.hpp"
#include "memo.hpp"

namespace edgespeech {

struct PredictorState;

// What was read of a tensor: bytes of the file, and vectors that it was multiplied with (rows that were looked up, of an
// embedding). One pass over a tensor serves up to kMaxBatch vectors. A matrix that is unpacked for several products is
// read once; what is read of the copy, in the core's own cache, is not counted.
struct Use {
  std::uint64_t bytes = 0, vectors = 0;
};

// A sparse matrix as bytes, see Layer::prepare.
struct Unfolded {
  Unpacked unpacked;
  const Tensor* of = nullptr;  // the matrix that it is of
};

// What the joiner gave for states of a frame, for when a state with the same labels comes again in it: a path that is
// extended mostly becomes what another one was before.
struct Joins {
  std::vector<const float*> frames;  // of each row
  std::vector<std::int32_t> labels;  // context of each row
  std::vector<float> logits;         // rows x vocabulary
  std::vector<double> log_sums;

  void clear() {
    frames.clear();
    labels.clear();
    logits.clear();
    log_sums.clear();
  }
};

// Shared by all steps of a call. The transcriber's is for kMaxBatch vectors; that of predictor and joiner grows with
// the paths of a search.
struct Workspace {
  std::vector<Use> uses;               // by the tensors' numbers, since the workspace was taken
  std::vector<std::int8_t> q;          // a product's vectors
  std::vector<std::int32_t> integers;  // its sums
  Scratch scratch;                     // and what it needs
  std::array<Unfolded, 3> unfolded;    // for as many matrices in turns
  std::vector<float> input, x, normal, encoded;                       // of the transcriber
  std::vector<float> gathered, hidden, recurrent, gates[2], outer;    // of its layers, gates by branch
  std::vector<float> none;                                            // zeros
  std::vector<float> decided;                                         // of the arbitrator
  std::vector<std::uint8_t> choices;                                  // its decisions: steps x states x decisions
  std::vector<float> labels, mixed, outputs;                          // of the predictor
  std::vector<float> joined, logits;                                  // of the joiner
  std::vector<double> log_sums;                                       // of the logits of each state
  Joins joins;
  struct {
    std::vector<float> queries, own, scores, mixed, added;
  } attention;                // of one kind of query
  std::vector<float> asking;  // vectors that attend together
  Memo predictions, fused;  // by the last labels, of a stateless predictor and of fusion
  std::vector<PredictorState*> unpredicted, distinct;
  std::vector<std::size_t> rows, first;  // of each state the row that is computed, and of each row its first state
  // Of a search: paths inside a frame, their frames, and their next labels.
  std::vector<PredictorState*> states;
  std::vector<const float*> frames;
  std::vector<std::int32_t> next;

  // One pass over a tensor, for so many vectors.
  void used(const Tensor& tensor, std::size_t vectors) {
    uses[tensor.number].bytes += tensor.bytes;
    uses[tensor.number].vectors += vectors;
  }
};

}  // namespace edgespeech
