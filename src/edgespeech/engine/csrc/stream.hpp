// One utterance in progress: the transcriber's state, frames that wait for the rest of theirs, and the search.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "runtime.hpp"
#include "search.hpp"

namespace edgespeech {

class Stream {
 public:
  // beam: number of hypotheses, at least 1, which is greedy search. phrases: of the model's pieces; none: no bias.
  // context: a list that this model encoded; none: no attention.
  Stream(std::shared_ptr<const Model> model, std::size_t beam, std::shared_ptr<const Phrases> phrases = nullptr,
         std::shared_ptr<const Context> context = nullptr);

  const Model& model() const { return *model_; }
  const Search& search() const { return *search_; }
  Search& search() { return *search_; }
  std::size_t state_bytes() const;
  // Which branch ran in each frame, frames x decisions; empty where the model has no branches.
  std::span<const std::uint8_t> decisions() const { return transcriber_.decisions; }
  // Who picks the branches from the next frame on; of use where the model has branches.
  void choose(Choice choice) { transcriber_.choice = choice; }

  // Takes the next `frames` feature frames of each of 1 to kMaxBatch streams of one model; weights are read once
  // for all streams that wait for equally many frames to complete a stack. features: streams x frames x features,
  // finite. Throws std::invalid_argument where the model's own values overflow; the streams are of no use then.
  static void accept(std::span<Stream* const> streams, const float* features, std::size_t frames);
  // Takes the next `steps` transcriber frames in place of features: steps x joiner, finite, as `transcribe` has them.
  // For many searches of one utterance; such a stream is given no features. Throws as `accept`.
  void accept_encoded(const float* encoded, std::size_t steps);
  // Takes the frames of a lead-in, before any other: they change the transcriber's state, and nothing is searched.
  // features: frames x features, finite; frames behind the last whole stack are left out.
  void lead_in(const float* features, std::size_t frames);

 private:
  static void accept_together(std::span<Stream* const> streams, const float* features, std::size_t frames,
                              Workspace& work);

  // Attends in the vectors of `steps` frames of one of `count` streams, all joiner wide.
  void attend(float* encoded, std::size_t steps, std::size_t count, Workspace& work) const;

  std::shared_ptr<const Model> model_;
  std::shared_ptr<const Context> context_;
  TranscriberState transcriber_;
  std::vector<float> waiting_;  // whole frames, fewer than a stack
  std::unique_ptr<Search> search_;
};

// The transcription of a whole utterance, floor(frames / stack) x joiner. features: frames x features, finite.
std::vector<float> transcribe(const Model& model, const float* features, std::size_t frames);

}  // namespace edgespeech
