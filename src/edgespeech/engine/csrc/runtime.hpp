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

#include "biasing.hpp"
#include "edge_file.hpp"
#include "floats.hpp"
#include "fusion.hpp"
#include "transcriber.hpp"
#include "workspace.hpp"

namespace edgespeech {

constexpr std::int32_t kBlank = 0;

// The prediction after the labels so far.
struct PredictorState {
  std::vector<std::int32_t> context;  // the last labels, for a stateless predictor
  std::vector<float> memory;          // output and cell, joiner wide each, for an LSTM predictor
  std::vector<float> predicted;       // joiner wide

  std::size_t bytes() const {
    return context.size() * sizeof(std::int32_t) + (memory.size() + predicted.size()) * sizeof(float);
  }
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
  // Attention over a list of phrases; nullptr where the file has none.
  const Biasing* biasing() const { return biasing_.get(); }

  // A workspace for one call, which returns it: there are as many as were ever in use at once.
  std::unique_ptr<Workspace> take_workspace() const;
  void give_back(std::unique_ptr<Workspace> work) const;

  // Bytes of copies of matrices, beside the file, that were made so far.
  std::size_t copied_bytes() const;

  // What was read of each tensor, by its number, in all calls that are over.
  std::vector<Use> uses() const;

  const Transcriber& transcriber() const { return transcriber_; }

  PredictorState start_predictor(Workspace& work) const;
  // Goes on by one label each.
  void advance(std::span<PredictorState* const> states, const std::int32_t* labels, Workspace& work) const;

  // To work.logits, states x vocabulary: joiner(tanh(encoded[n] + predicted of states[n])); and the logarithms of the
  // sums of their exponentials to work.log_sums. What is in work.joins is not computed again, and what is new goes there.
  // Throws std::invalid_argument where a sum is not finite.
  void join(std::span<PredictorState* const> states, const float* const* encoded, Workspace& work) const;
  // The logarithm of the sum of exp(x). Throws std::invalid_argument when it is not finite.
  double log_sum_exp(const float* x, std::size_t count) const;

 private:
  // Finds the states whose results are equal: those of a stateless predictor with the same labels. To work.rows and
  // work.first.
  void find_equal(std::span<PredictorState* const> states, Workspace& work) const;
  // The row of work.joins of a state in a frame, which is added where there is none.
  std::size_t join_of(const PredictorState& state, const float* frame, Joins& joins) const;

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
  Transcriber transcriber_;
  const Tensor* embedding_;
  Layer mix_;            // of a stateless predictor
  Lstm predictor_lstm_;  // of the other one
  Layer predictor_leave_, joiner_;
  std::unique_ptr<const Fusion> fusion_;
  std::unique_ptr<const Biasing> biasing_;
  std::vector<std::shared_ptr<const Copy>> copies_;

  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Workspace>> spare_;
  mutable std::vector<Use> uses_;
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

}  // namespace edgespeech
