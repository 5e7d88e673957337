#include "stream.hpp"

#include <algorithm>
#include <utility>

namespace edgespeech {

Stream::Stream(std::shared_ptr<const Model> model, std::size_t beam, std::shared_ptr<const Phrases> phrases,
               std::shared_ptr<const Context> context)
    : model_(std::move(model)), context_(std::move(context)), transcriber_(model_->transcriber().start()) {
  waiting_.reserve(std::size_t{model_->shape().stack - 1} * model_->shape().features);
  const WorkspaceLease work(*model_);
  search_ = Search::make(*model_, beam, std::move(phrases), context_, *work);
}

void Stream::attend(float* encoded, std::size_t steps, std::size_t count, Workspace& work) const {
  const std::size_t width = model_->shape().joiner;
  std::vector<float>& asking = work.asking;
  if (asking.size() < steps * width) asking.resize(steps * width);
  for (std::size_t step = 0; step < steps; ++step)
    std::copy_n(encoded + step * count * width, width, asking.data() + step * width);
  model_->biasing()->attend_audio(*context_, asking.data(), steps, work);
  for (std::size_t step = 0; step < steps; ++step)
    std::copy_n(asking.data() + step * width, width, encoded + step * count * width);
}

std::size_t Stream::state_bytes() const {
  const std::size_t listed = context_ ? context_->bytes() : 0;
  return transcriber_.bytes() + waiting_.size() * sizeof(float) + search_->state_bytes() + listed;
}

void Stream::accept(std::span<Stream* const> streams, const float* features, std::size_t frames) {
  const std::size_t width = frames * streams[0]->model_->shape().features;
  const WorkspaceLease work(*streams[0]->model_);
  const std::size_t waiting = streams[0]->waiting_.size();
  if (std::ranges::all_of(streams, [&](const Stream* each) { return each->waiting_.size() == waiting; }))
    return accept_together(streams, features, frames, *work);
  for (std::size_t n = 0; n < streams.size(); ++n)
    accept_together(streams.subspan(n, 1), features + n * width, frames, *work);
}

void Stream::accept_together(std::span<Stream* const> streams, const float* features, std::size_t frames,
                             Workspace& work) {
  const Model& model = *streams[0]->model_;
  const std::size_t bands = model.shape().features, stack = model.shape().stack, count = streams.size();
  const std::size_t waiting = streams[0]->waiting_.size() / bands;
  const std::size_t steps = (waiting + frames) / stack, most = kMaxBatch / count;
  TranscriberState* states[kMaxBatch];
  Search* searches[kMaxBatch];
  for (std::size_t n = 0; n < count; ++n) {
    states[n] = &streams[n]->transcriber_;
    searches[n] = streams[n]->search_.get();
  }
  const std::size_t encoded = count * model.shape().joiner;  // of a step
  for (std::size_t first = 0, some; first < steps; first += some) {
    some = std::min(most, steps - first);
    float* input = work.input.data();
    for (std::size_t step = first; step < first + some; ++step) {
      for (std::size_t n = 0; n < count; ++n) {
        for (std::size_t frame = step * stack; frame < (step + 1) * stack; ++frame, input += bands) {
          const float* from = frame < waiting ? streams[n]->waiting_.data() + frame * bands
                                              : features + (n * frames + frame - waiting) * bands;
          std::copy_n(from, bands, input);
        }
      }
    }
    model.transcriber().run({states, count}, some, work);
    for (std::size_t n = 0; n < count; ++n)
      if (streams[n]->context_)
        streams[n]->attend(work.encoded.data() + n * model.shape().joiner, some, count, work);
    for (std::size_t step = 0; step < some; ++step)
      Search::accept(model, {searches, count}, work.encoded.data() + step * encoded, work);
  }
  const std::size_t rest = waiting + frames - steps * stack;
  for (std::size_t n = 0; n < count; ++n) {
    std::vector<float>& kept = streams[n]->waiting_;
    if (steps > 0) kept.clear();
    const float* end = features + (n + 1) * frames * bands;
    kept.insert(kept.end(), end - (rest - kept.size() / bands) * bands, end);
  }
}

void Stream::accept_encoded(const float* encoded, std::size_t steps) {
  const std::size_t width = model_->shape().joiner;
  const WorkspaceLease work(*model_);
  Search* const search = search_.get();
  std::vector<float> kept(kMaxBatch * width);
  for (std::size_t first = 0; first < steps; first += kMaxBatch) {
    const std::size_t some = std::min(kMaxBatch, steps - first);
    std::copy_n(encoded + first * width, some * width, kept.data());
    if (context_) attend(kept.data(), some, 1, *work);
    for (std::size_t step = 0; step < some; ++step)
      Search::accept(*model_, {&search, 1}, kept.data() + step * width, *work);
  }
}

namespace {

// Runs the transcriber over whole stacks of one stream. encoded: steps x joiner, or none.
void run_alone(const Model& model, TranscriberState& state, const float* features, std::size_t steps, float* encoded) {
  const std::size_t width = std::size_t{model.shape().stack} * model.shape().features;
  const std::size_t joiner = model.shape().joiner;
  const WorkspaceLease work(model);
  TranscriberState* const one = &state;
  for (std::size_t first = 0; first < steps; first += kMaxBatch) {
    const std::size_t some = std::min(kMaxBatch, steps - first);
    std::copy_n(features + first * width, some * width, (*work).input.data());
    model.transcriber().run({&one, 1}, some, *work);
    if (encoded) std::copy_n((*work).encoded.data(), some * joiner, encoded + first * joiner);
  }
}

}  // namespace

void Stream::lead_in(const float* features, std::size_t frames) {
  run_alone(*model_, transcriber_, features, frames / model_->shape().stack, nullptr);
  transcriber_.decisions.clear();  // those of the frames that are searched come first
}

std::vector<float> transcribe(const Model& model, const float* features, std::size_t frames) {
  const std::size_t steps = frames / model.shape().stack;
  TranscriberState state = model.transcriber().start();
  std::vector<float> encoded(steps * model.shape().joiner);
  run_alone(model, state, features, steps, encoded.data());
  return encoded;
}

}  // namespace edgespeech
