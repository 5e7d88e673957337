// The transcriber: LSTM layers over stacked frames. It may have two branches over one recurrent state, slow and fast,
// and an arbitrator that picks one of them for each frame, from that frame and those before; the weights of the other
// one are not read (AmNet, arXiv 2108.01553; Bifocal, arXiv 2108.01704).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "layer.hpp"
#include "tensor_reader.hpp"
#include "workspace.hpp"

namespace edgespeech {

// As edgespeech.model.config.ModelConfig and .branching_config.BranchingConfig have them.
struct Shape {
  std::uint32_t features, stack, layers, hidden, joiner, vocabulary;
  std::uint32_t context;    // 0 for an LSTM predictor, which has none
  std::uint32_t units;      // of the fast branch, which are the state's first; 0 where there are no branches
  std::uint32_t rank;       // of its factors; 0 where there are none
  std::uint32_t arbitrator; // units
  std::uint32_t decisions;  // in a frame: 1, or one for each layer
};

enum class Branch : std::uint8_t { Fast = 0, Slow = 1 };
constexpr std::size_t kBranches = 2;

// Who picks a stream's branches: always one of them, whose arbitrator is then not asked, or the arbitrator.
enum class Choice : std::uint8_t { Fast = 0, Slow = 1, Arbitrated = 2 };

struct TranscriberState {
  std::vector<float> hidden, cell;                        // of the layers, layers x hidden each
  std::vector<float> arbitrator_hidden, arbitrator_cell;  // of the arbitrator
  Choice choice;
  std::vector<std::uint8_t> decisions;  // frames x decisions: the branches that ran

  std::size_t bytes() const {
    return (hidden.size() + cell.size() + arbitrator_hidden.size() + arbitrator_cell.size()) * sizeof(float);
  }
};

class Transcriber {
 public:
  Transcriber() = default;
  // Fills the shape, but for vocabulary and context. Throws as the reader does.
  Transcriber(TensorReader& reader, Shape& shape, Isa isa);

  TranscriberState start() const;
  void make_room(Workspace& work) const;
  // Goes on by `steps` stacks of frames, each of every state's stream; steps * states at most kMaxBatch.
  // From work.input, steps x states x (stack * features), which it changes, to work.encoded, steps x states x
  // joiner.
  void run(std::span<TranscriberState* const> states, std::size_t steps, Workspace& work) const;

 private:
  // A branch of a layer. A factorised one has `outer` times what the other two give, which have its rank in rows.
  struct Part {
    std::uint32_t units = 0;
    Layer input, recurrent, outer;
    bool factorised = false;
  };

  static Part read_fast(TensorReader& reader, std::uint32_t layer, Shape& shape);
  void read_arbitrator(TensorReader& reader, Shape& shape);
  // To work.choices, and to the states.
  void decide(std::span<TranscriberState* const> states, std::size_t steps, Workspace& work) const;
  void ask_arbitrator(std::span<TranscriberState* const> states, std::span<const std::size_t> asked,
                      std::size_t steps, Workspace& work) const;
  void run_layer(std::size_t layer, std::span<TranscriberState* const> states, std::size_t steps,
                 Workspace& work) const;
  // What the input adds to the gates, for all vectors of a branch at once, so that its weights are read once.
  void drive(const Part& part, std::span<const std::size_t> vectors, float* gates, Workspace& work) const;
  // One step of some of the states; `gates`, from drive, of each of them.
  void step(const Part& part, std::size_t layer, std::span<TranscriberState* const> states, const float* gates,
            Workspace& work) const;

  const FloatKernels* floats_ = nullptr;
  Shape shape_{};
  const Tensor *mean_ = nullptr, *scale_ = nullptr;
  Layer enter_;
  std::vector<Norm> norms_;
  std::vector<Part> parts_[kBranches];  // by layer
  Lstm arbitrator_;
  Layer arbitrator_leave_;
  Norm leave_norm_{};
  Layer leave_;
};

}  // namespace edgespeech
