// Greedy and beam search, as edgespeech.search.greedy and .beam do them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "phrases.hpp"
#include "runtime.hpp"
#include "steps.hpp"

namespace edgespeech {

constexpr int kMaxLabels = 4;  // of one frame

struct Path {
  std::uint32_t last = Steps::kNone;  // its last label, in the search's steps
  double score = 0;                   // log-probability of all its alignments, and what fusion added
  double likeliest = 0;               // the same of the one alignment that the steps' frames are of
  PredictorState state;
  std::vector<float> fused;  // what fusion adds for each next label; empty until it is asked for
  std::vector<float> bonus;  // the same of phrases, before `Search::moved`
  std::uint32_t place = Phrases::kStart;  // in the phrases
};

// A path's word pieces, and the frame in which each was emitted.
struct Emitted {
  std::vector<std::int32_t> labels, frames;
};

// The search of one utterance.
class Search {
 public:
  // beam: number of paths; 1 is greedy search. phrases: that are likely; none: no bias. context: that labels attend to;
  // none: no attention.
  static std::unique_ptr<Search> make(const Model& model, std::size_t beam, std::shared_ptr<const Phrases> phrases,
                                      std::shared_ptr<const Context> context, Workspace& work);
  virtual ~Search() = default;

  // The paths in the beam, in the order of the search.
  virtual std::span<const Path> best() const = 0;
  // The same, likeliest first, with their scores where each ends here: without what unfinished phrases gave.
  std::vector<std::pair<const Path*, double>> ranked() const;
  Emitted emitted(const Path& path) const;
  // What is new of the likeliest path since the last call, or since the start: how many of the labels that were told
  // by then, with their frames, are still its first ones, those behind them, and its score. Takes a time that does not
  // grow with the length of the path.
  std::size_t news(Emitted& told, double& score);
  // Bytes of predictions and predictor states.
  std::size_t state_bytes() const;

  // Takes one more transcriber frame of each utterance. encoded: searches x joiner.
  static void accept(const Model& model, std::span<Search* const> searches, const float* encoded,
                     Workspace& work);

 protected:
  explicit Search(std::shared_ptr<const Phrases> phrases) : phrases_(std::move(phrases)) {}
  // The path goes on by a label.
  void append(Path& path, std::int32_t label, std::int32_t frame);
  // Forgets the labels of paths that were dropped, from time to time. kept: the others.
  void sweep(std::span<Path> kept);
  // What the bonuses of phrases for the next label are lessened by, so that all labels together stay as likely as they
  // are beside the blank. fused: of the labels, or nullptr.
  double moved(const Model& model, const float* logits, const float* fused, const std::vector<float>& bonus);

  std::shared_ptr<const Phrases> phrases_;
  Steps steps_;

 private:
  // The predictions of the paths inside attend to the list.
  void attend(const Model& model, Workspace& work);

  std::shared_ptr<const Context> context_;
  std::vector<float> before_, after_;  // of `moved`
  std::uint32_t told_ = Steps::kNone;  // the last label of which there was news
  std::vector<std::uint32_t*> roots_;  // of `sweep`

  // A frame is on: all paths are inside it.
  virtual void begin() = 0;
  // The paths inside the frame, which have to be joined with it.
  virtual std::span<Path> inside() = 0;
  // Takes what was joined: those paths go on by one label, for which the predictor is still to be asked, or leave
  // the frame; all of them do when `spent`, the labels that each has emitted in it, is kMaxLabels.
  // logits: paths inside x vocabulary. log_sums: of each of them, the logarithm of the sum of their exponentials.
  virtual void take(const Model& model, int spent, const float* logits, const double* log_sums, Workspace& work) = 0;
};

}  // namespace edgespeech
