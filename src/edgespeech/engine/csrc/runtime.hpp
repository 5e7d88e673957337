// A packed streaming transducer: transcriber, predictor and joiner on the tensors of a mapped `.edge` file.
//
// A product with a matrix of codes quantises its vector; everything else is fp32. A vector's
// results do not depend on the vectors beside it, so that batches and pieces of any size give the same bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "edge_file.hpp"
#include "floats.hpp"
#include "fusion.hpp"
#include "memo.hpp"

namespace edgespeech {

constexpr std::int32_t kBlank = 0;

// As edgespeech.model.config.ModelConfig has them; an LSTM predictor has no context (0).
struct Shape {
  std::uint32_t features, stack, layers, hidden, joiner, vocabulary, context;
};

struct Workspace;

// A matrix of the file, and the bias that goes with it.
class Layer {
 public:
  Layer() = default;
  // bias: a value for each row; nullptr for none.
  Layer(const Tensor& matrix, const float* bias, Isa isa);

  // y[n] = matrix * x[n] + bias, for any number of vectors. Throws std::invalid_argument where the matrix holds
  // codes and a value of x is not finite.
  void multiply(const float* x, std::size_t batch, float* y, Workspace& work) const;

  // To be called before so many products in a row: where it saves time the matrix is unpacked, to work.unpacked, which
  // they then use.
  void prepare(std::size_t products, Workspace& work) const;

 private:
  void multiply_codes(const float* x, std::size_t batch, float* y, Workspace& work) const;

  const Tensor* matrix_ = nullptr;
  std::vector<float> turned_;  // the scales, groups x rows, where there are groups: the file has rows x groups
  const float* bias_ = nullptr;
  const FloatKernels* floats_ = nullptr;
  Isa isa_ = Isa::Scalar;
};

// Outputs and cells of the transcriber's LSTM layers.
struct TranscriberState {
  std::vector<float> hidden, cell;  // layers x hidden each
};

// The prediction after the labels so far.
struct PredictorState {
  std::vector<std::int32_t> context;  // the last labels, for a stateless predictor
  std::vector<float> memory;          // output and cell, joiner wide each, for an LSTM predictor
  std::vector<float> predicted;       // joiner wide

  std::size_t bytes() const {
    return context.size() * sizeof(std::int32_t) + (memory.size() + predicted.size()) * sizeof(float);
  }
};

// Memory of one call, shared by all of its steps. The transcriber's is for kMaxBatch vectors; that of predictor
// and joiner grows with the paths of a search.
struct Workspace {
  std::vector<std::int8_t> q;          // a product's vectors
  std::vector<std::int32_t> integers;  // its sums
  Scratch scratch;                     // and what it needs
  Unpacked unpacked;                   // the matrix of unpacked_of, where that is not nullptr
  const Tensor* unpacked_of = nullptr;
  std::vector<float> input, x, normal, gates, hidden, recurrent, encoded;  // of the transcriber
  std::vector<float> labels, mixed, outputs;                               // of the predictor
  std::vector<float> joined, logits;                                       // of the joiner
  Memo predictions, fused;  // by the last labels, of a stateless predictor and of fusion
  std::vector<PredictorState*> unpredicted, distinct;
  std::vector<std::size_t> rows, first;  // of each state the row that is computed, and of each row its first state
  // Of a search: paths inside a frame, their frames, and their next labels.
  std::vector<PredictorState*> states;
  std::vector<const float*> frames;
  std::vector<std::int32_t> next;
};

// Never changes after construction, but for its spare workspaces: any number of threads may use it at once.
class Model {
 public:
  // Throws std::runtime_error where a tensor is missing, in excess, or of another shape than its neighbours
  // tell, and std::invalid_argument when this CPU lacks the ISA.
  // label: what messages call the file.
  Model(std::shared_ptr<const EdgeFile> file, const std::string& label, Isa isa);

  const Shape& shape() const { return shape_; }
  const EdgeFile& file() const { return *file_; }
  Isa isa() const { return isa_; }
  // What beam search adds to the scores of labels; nullptr where the file has no language model.
  const Fusion* fusion() const { return fusion_.get(); }

  // A workspace for one call, which returns it: there are as many as were ever in use at once.
  std::unique_ptr<Workspace> take_workspace() const;
  void give_back(std::unique_ptr<Workspace> work) const;

  TranscriberState start() const;
  // Goes on by `steps` stacks of frames, each of every state's stream; steps * states at most kMaxBatch.
  // From work.input, steps x states x (stack * features), which it changes, to work.encoded, steps x states x
  // joiner.
  void transcribe(std::span<TranscriberState* const> states, std::size_t steps, Workspace& work) const;

  PredictorState start_predictor(Workspace& work) const;
  // Goes on by one label each.
  void advance(std::span<PredictorState* const> states, const std::int32_t* labels, Workspace& work) const;

  // To work.logits, states x vocabulary: joiner(tanh(encoded[n] + predicted of states[n])).
  void join(std::span<PredictorState* const> states, const float* const* encoded, Workspace& work) const;
  // The logarithm of the sum of exp(logits), vocabulary wide. Throws std::invalid_argument when it is not finite.
  double log_sum_exp(const float* logits) const;

 private:
  class Reader;
  struct Norm {
    const float *weight, *bias;
  };
  struct Lstm {
    Layer input, recurrent;  // the bias is the input's
  };

  // work.normal of `vectors` vectors of work.x.
  void normalise(const Norm& norm, std::size_t vectors, Workspace& work) const;
  void run_layer(std::size_t layer, std::span<TranscriberState* const> states, std::size_t steps,
                 Workspace& work) const;

  // Finds the states whose results are equal: those of a stateless predictor with the same labels and, where frames are
  // given, the same frame. To work.rows and work.first.
  void find_equal(std::span<PredictorState* const> states, const float* const* encoded, Workspace& work) const;

  // To work.outputs, states x joiner: what the predictors of either kind make of one more label, which a stateless one
  // has in its context by then.
  void mix_labels(std::span<PredictorState* const> states, Workspace& work) const;
  void remember_labels(std::span<PredictorState* const> states, const std::int32_t* labels,
                       Workspace& work) const;

  std::shared_ptr<const EdgeFile> file_;
  Isa isa_;
  const FloatKernels* floats_;
  Shape shape_{};
  std::size_t most_columns_ = 0, most_sums_ = 0;  // of a matrix of codes, the latter rows x groups
  const float *mean_, *scale_;
  Layer enter_;
  std::vector<Norm> norms_;
  std::vector<Lstm> lstms_;
  Norm leave_norm_;
  Layer leave_;
  const Tensor* embedding_;
  Layer mix_;            // of a stateless predictor
  Lstm predictor_lstm_;  // of the other one
  Layer predictor_leave_, joiner_;
  std::unique_ptr<const Fusion> fusion_;

  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Workspace>> spare_;
};

// A workspace of a model for as long as this lives.
class WorkspaceLease {
 public:
  explicit WorkspaceLease(const Model& model) : model_(model), work_(model.take_workspace()) {}
  ~WorkspaceLease() { model_.give_back(std::move(work_)); }
  WorkspaceLease(const WorkspaceLease&) = delete;
  WorkspaceLease& operator=(const WorkspaceLease&) = delete;
  Workspace& operator*() const { return *work_; }

 private:
  const Model& model_;
  std::unique_ptr<Workspace> work_;
};

// Row `row` of a matrix as floats, its columns in number.
void read_row(const Tensor& matrix, std::uint32_t row, float* to);

}  // namespace edgespeech
