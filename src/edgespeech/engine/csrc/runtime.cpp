#include "runtime.hpp"

#include <algorithm>
#include <string>

namespace edgespeech {

Model::Model(std::shared_ptr<const EdgeFile> file, const std::string& label, Isa isa)
    : file_(std::move(file)), isa_(isa), floats_(&float_kernels(isa)), uses_(file_->tensors().size()) {
  TensorReader reader(*file_, label, isa);
  Shape& s = shape_;
  transcriber_ = Transcriber(reader, s, isa);
  s.vocabulary = reader.any("joiner.weight").rows;
  if (s.vocabulary < 2) reader.fail("joiner.weight", "rows", std::to_string(s.vocabulary), "at least 2");
  embedding_ = &reader.matrix("predictor.embedding.weight", s.vocabulary, s.joiner);
  if (reader.has("predictor.mix.weight")) {
    s.context = reader.parts("predictor.mix.weight", "cols", reader.any("predictor.mix.weight").cols, s.joiner);
    mix_ = reader.layer("predictor.mix", s.joiner, std::uint64_t{s.context} * s.joiner);
  } else {
    predictor_lstm_ = reader.lstm("predictor.lstm", s.joiner, s.joiner);
  }
  predictor_leave_ = reader.layer("predictor.leave", s.joiner, s.joiner);
  joiner_ = reader.layer("joiner", s.vocabulary, s.joiner);
  if (reader.has(Fusion::kWeights))
    fusion_ = std::make_unique<Fusion>(floats_of(reader.vector(Fusion::kWeights, 3)), reader.any(Fusion::kHigh),
                                       reader.any(Fusion::kLow), s.vocabulary, label);
  if (reader.has_any(Biasing::kPrefix))
    biasing_ = std::make_unique<Biasing>(reader, s.vocabulary, s.joiner, isa);
  reader.expect_all_taken();
  copies_ = reader.copies();

  for (const Tensor& tensor : file_->tensors()) {
    if (tensor.encoding != Encoding::Codes || Fusion::owns(tensor.name)) continue;
    most_columns_ = std::max<std::size_t>(most_columns_, tensor.cols);
    most_sums_ = std::max(most_sums_, std::size_t{tensor.rows} * tensor.packed.groups());
  }
}

std::unique_ptr<Workspace> Model::take_workspace() const {
  {
    const std::lock_guard lock(mutex_);
    if (!spare_.empty()) {
      auto work = std::move(spare_.back());
      spare_.pop_back();
      return work;
    }
  }
  auto work = std::make_unique<Workspace>();
  work->uses.resize(file_->tensors().size());
  work->q.resize(kMaxBatch * most_columns_);
  work->integers.resize(kMaxBatch * most_sums_);
  transcriber_.make_room(*work);
  return work;
}

void Model::give_back(std::unique_ptr<Workspace> work) const {
  const std::lock_guard lock(mutex_);
  for (std::size_t i = 0; i < uses_.size(); ++i) {
    uses_[i].bytes += work->uses[i].bytes;
    uses_[i].vectors += work->uses[i].vectors;
  }
  std::ranges::fill(work->uses, Use{});
  spare_.push_back(std::move(work));
}

std::size_t Model::copied_bytes() const {
  std::size_t bytes = 0;
  for (const auto& copy : copies_) bytes += copy->bytes;
  return bytes;
}

std::vector<Use> Model::uses() const {
  const std::lock_guard lock(mutex_);
  return uses_;
}

PredictorState Model::start_predictor(Workspace& work) const {
  PredictorState state{std::vector<std::int32_t>(shape_.context, kBlank),
                       std::vector<float>(shape_.context == 0 ? 2 * std::size_t{shape_.joiner} : 0),
                       std::vector<float>(shape_.joiner)};
  PredictorState* const one = &state;
  advance({&one, 1}, &kBlank, work);  // a blank more or less before the first label changes nothing
  return state;
}

void Model::find_equal(std::span<PredictorState* const> states, Workspace& work) const {
  work.rows.clear();
  work.first.clear();
  for (std::size_t n = 0; n < states.size(); ++n) {
    const auto equal = [&](std::size_t other) { return states[n]->context == states[other]->context; };
    const auto found = std::ranges::find_if(work.first, equal);
    work.rows.push_back(static_cast<std::size_t>(found - work.first.begin()));
    if (found == work.first.end()) work.first.push_back(n);
  }
}

void Model::advance(std::span<PredictorState* const> states, const std::int32_t* labels,
                    Workspace& work) const {
  const std::size_t width = shape_.joiner;
  if (shape_.context == 0) {
    remember_labels(states, labels, work);
    for (std::size_t n = 0; n < states.size(); ++n)
      std::copy_n(work.outputs.data() + n * width, width, states[n]->predicted.data());
    return;
  }
  work.predictions.shape(shape_.context, width);
  work.unpredicted.clear();
  for (std::size_t n = 0; n < states.size(); ++n) {
    std::vector<std::int32_t>& last = states[n]->context;
    std::rotate(last.begin(), last.begin() + 1, last.end());
    last.back() = labels[n];
    if (const float* found = work.predictions.find(last.data())) {
      std::copy_n(found, width, states[n]->predicted.data());
    } else {
      work.unpredicted.push_back(states[n]);
    }
  }
  if (work.unpredicted.empty()) return;
  find_equal(work.unpredicted, work);
  work.distinct.clear();
  for (const std::size_t n : work.first) work.distinct.push_back(work.unpredicted[n]);
  mix_labels(work.distinct, work);
  for (std::size_t n = 0; n < work.unpredicted.size(); ++n) {
    PredictorState& state = *work.unpredicted[n];
    std::copy_n(work.outputs.data() + work.rows[n] * width, width, state.predicted.data());
    std::copy_n(state.predicted.data(), width, work.predictions.put(state.context.data()));
  }
}

void Model::mix_labels(std::span<PredictorState* const> states, Workspace& work) const {
  const std::size_t width = shape_.joiner, count = states.size();
  work.labels.resize(std::max(work.labels.size(), count * shape_.context * width));
  work.mixed.resize(std::max(work.mixed.size(), count * width));
  work.outputs.resize(std::max(work.outputs.size(), count * width));
  float* seen = work.labels.data();
  for (const PredictorState* state : states) {
    for (const std::int32_t label : state->context) {
      look_up(*embedding_, static_cast<std::uint32_t>(label), seen, work);
      seen += width;
    }
  }
  mix_.multiply(work.labels.data(), count, work.mixed.data(), work);
  float* mixed = work.mixed.data();
  for (std::size_t i = 0; i < count * width; ++i) mixed[i] = std::max(mixed[i], 0.0f);
  predictor_leave_.multiply(mixed, count, work.outputs.data(), work);
}

void Model::remember_labels(std::span<PredictorState* const> states, const std::int32_t* labels,
                            Workspace& work) const {
  const std::size_t width = shape_.joiner, count = states.size();
  work.labels.resize(std::max(work.labels.size(), count * width));
  work.mixed.resize(std::max(work.mixed.size(), 4 * count * width));
  work.outputs.resize(std::max(work.outputs.size(), 4 * count * width));
  float *seen = work.labels.data(), *mixed = work.mixed.data(), *gates = work.outputs.data();
  for (std::size_t n = 0; n < count; ++n)
    look_up(*embedding_, static_cast<std::uint32_t>(labels[n]), seen + n * width, work);
  predictor_lstm_.input.multiply(seen, count, gates, work);
  for (std::size_t n = 0; n < count; ++n) std::copy_n(states[n]->memory.data(), width, seen + n * width);
  predictor_lstm_.recurrent.multiply(seen, count, mixed, work);
  for (std::size_t n = 0; n < count; ++n) {
    float* memory = states[n]->memory.data();
    floats_->lstm(gates + n * 4 * width, mixed + n * 4 * width, width, memory, memory + width);
  }
  for (std::size_t n = 0; n < count; ++n) std::copy_n(states[n]->memory.data(), width, mixed + n * width);
  predictor_leave_.multiply(mixed, count, gates, work);
}

std::size_t Model::join_of(const PredictorState& state, const float* frame, Joins& joins) const {
  const std::size_t width = shape_.context;
  for (std::size_t row = 0; width > 0 && row < joins.frames.size(); ++row) {
    const std::int32_t* labels = joins.labels.data() + row * width;
    if (joins.frames[row] == frame && std::equal(labels, labels + width, state.context.begin())) return row;
  }
  joins.frames.push_back(frame);
  joins.labels.insert(joins.labels.end(), state.context.begin(), state.context.end());
  return joins.frames.size() - 1;
}

void Model::join(std::span<PredictorState* const> states, const float* const* encoded,
                 Workspace& work) const {
  const std::size_t width = shape_.joiner, count = states.size(), vocabulary = shape_.vocabulary;
  Joins& joins = work.joins;
  const std::size_t known = joins.frames.size();
  work.rows.clear();
  work.first.clear();
  for (std::size_t n = 0; n < count; ++n) {
    work.rows.push_back(join_of(*states[n], encoded[n], joins));
    if (work.rows[n] == known + work.first.size()) work.first.push_back(n);
  }
  const std::size_t fresh = work.first.size();
  work.joined.resize(std::max(work.joined.size(), fresh * width));
  work.logits.resize(std::max(work.logits.size(), count * vocabulary));
  work.log_sums.resize(std::max(work.log_sums.size(), count));
  joins.logits.resize((known + fresh) * vocabulary);
  for (std::size_t row = 0; row < fresh; ++row) {
    const std::size_t n = work.first[row];
    floats_->tanh_sum(encoded[n], states[n]->predicted.data(), width, work.joined.data() + row * width);
  }
  float* made = joins.logits.data() + known * vocabulary;
  if (fresh > 0) joiner_.multiply(work.joined.data(), fresh, made, work);
  for (std::size_t row = 0; row < fresh; ++row)
    joins.log_sums.push_back(log_sum_exp(made + row * vocabulary, vocabulary));
  for (std::size_t n = 0; n < count; ++n) {
    const std::size_t row = work.rows[n];
    std::copy_n(joins.logits.data() + row * vocabulary, vocabulary, work.logits.data() + n * vocabulary);
    work.log_sums[n] = joins.log_sums[row];
  }
}

double Model::log_sum_exp(const float* x, std::size_t count) const {
  const double sum = floats_->log_sum_exp(x, count);
  expect_finite(sum);
  return sum;
}

}  // namespace edgespeech
