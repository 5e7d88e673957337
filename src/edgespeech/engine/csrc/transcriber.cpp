#include "transcriber.hpp"

#include <algorithm>
#include <array>
#include <string>

namespace edgespeech {
namespace {

constexpr auto kSlow = static_cast<std::size_t>(Branch::Slow), kFast = static_cast<std::size_t>(Branch::Fast);

std::string fast_name(std::uint32_t layer, const char* tensor) {
  return "transcriber.fast." + std::to_string(layer) + "." + tensor;
}

}  // namespace

Transcriber::Transcriber(TensorReader& reader, Shape& s, Isa isa) : floats_(&float_kernels(isa)) {
  const std::string enter = "transcriber.enter.weight";
  s.features = reader.any("transcriber.mean").cols;
  s.hidden = reader.any(enter).rows;
  s.stack = reader.parts(enter, "cols", reader.any(enter).cols, s.features);
  s.joiner = reader.any("transcriber.leave.1.weight").rows;
  mean_ = &reader.vector("transcriber.mean", s.features);
  scale_ = &reader.vector("transcriber.scale", s.features);
  enter_ = reader.layer("transcriber.enter", s.hidden, std::uint64_t{s.stack} * s.features);
  const bool branches = reader.has_any("transcriber.fast.") || reader.has_any("transcriber.arbitrator.");
  do {
    const std::string number = std::to_string(s.layers);
    norms_.push_back(reader.norm("transcriber.norms." + number, s.hidden));
    Lstm slow = reader.lstm("transcriber.lstms." + number, s.hidden, s.hidden);
    parts_[kSlow].push_back(
        {.units = s.hidden, .input = std::move(slow.input), .recurrent = std::move(slow.recurrent), .outer = {}});
    if (branches) parts_[kFast].push_back(read_fast(reader, s.layers, s));
    ++s.layers;
  } while (reader.has("transcriber.lstms." + std::to_string(s.layers) + ".weight_ih_l0"));
  if (branches) read_arbitrator(reader, s);
  leave_norm_ = reader.norm("transcriber.leave.0", s.hidden);
  leave_ = reader.layer("transcriber.leave.1", s.joiner, s.hidden);
  shape_ = s;
}

Transcriber::Part Transcriber::read_fast(TensorReader& reader, std::uint32_t layer, Shape& s) {
  const auto name = [&](const char* tensor) { return fast_name(layer, tensor); };
  const bool first = layer == 0;
  if (first ? reader.has(name("outer")) : s.rank > 0) {
    if (first) s.units = s.hidden, s.rank = reader.any(name("outer")).cols;
    if (s.rank > 2 * s.hidden)
      reader.fail(name("outer"), "cols", std::to_string(s.rank), "at most " + std::to_string(2 * s.hidden));
    const Tensor& bias = reader.vector(name("bias"), 4 * std::uint64_t{s.units});
    return {.units = s.units,
            .input = reader.plain(name("inner_ih"), s.rank, s.units),
            .recurrent = reader.plain(name("inner_hh"), s.rank, s.units),
            .outer = reader.plain(name("outer"), 4 * std::uint64_t{s.units}, s.rank, &bias),
            .factorised = true};
  }
  if (first) s.units = reader.parts(name("weight_hh"), "rows", reader.any(name("weight_hh")).rows, 4);
  if (s.units > s.hidden)
    reader.fail(name("weight_hh"), "rows", std::to_string(4 * std::uint64_t{s.units}),
                "at most " + std::to_string(4 * std::uint64_t{s.hidden}) + ", 4 for each unit of the state of " +
                    "both branches");
  const std::uint64_t gates = 4 * std::uint64_t{s.units};
  const Tensor& bias = reader.vector(name("bias"), gates);
  return {.units = s.units,
          .input = reader.plain(name("weight_ih"), gates, s.units, &bias),
          .recurrent = reader.plain(name("weight_hh"), gates, s.units),
          .outer = {}};
}

void Transcriber::read_arbitrator(TensorReader& reader, Shape& s) {
  const std::string lstm = "transcriber.arbitrator.lstm", leave = "transcriber.arbitrator.leave";
  s.arbitrator = reader.any(lstm + ".weight_hh_l0").cols;
  arbitrator_ = reader.lstm(lstm, s.arbitrator, std::uint64_t{s.stack} * s.features);
  s.decisions = reader.any(leave + ".weight").rows;
  if (s.decisions != 1 && s.decisions != s.layers)
    reader.fail(leave + ".weight", "rows", std::to_string(s.decisions),
                "1 or " + std::to_string(s.layers) + ": a decision for all layers, or one for each");
  arbitrator_leave_ = reader.layer(leave, s.decisions, s.arbitrator);
}

TranscriberState Transcriber::start() const {
  const std::size_t size = std::size_t{shape_.layers} * shape_.hidden;
  const bool branches = shape_.units > 0;
  return {std::vector<float>(size),
          std::vector<float>(size),
          std::vector<float>(shape_.arbitrator),
          std::vector<float>(shape_.arbitrator),
          branches ? Choice::Arbitrated : Choice::Slow,
          {}};
}

void Transcriber::make_room(Workspace& work) const {
  const Shape& s = shape_;
  const std::size_t stacked = std::size_t{s.stack} * s.features, wide = std::max(s.hidden, s.arbitrator);
  work.input.resize(kMaxBatch * stacked);
  for (auto* each : {&work.x, &work.normal}) each->resize(kMaxBatch * s.hidden);
  work.hidden.resize(kMaxBatch * wide);
  work.gathered.resize(s.units > 0 ? kMaxBatch * std::max(stacked, wide) : 0);
  // The rank of a factorised branch is at most twice the width.
  for (auto* each : {&work.recurrent, &work.gates[kSlow]}) each->resize(kMaxBatch * 4 * wide);
  work.gates[kFast].resize(kMaxBatch * 4 * s.units);
  work.outer.resize(s.units > 0 ? kMaxBatch * 4 * wide : 0);
  work.none.resize(s.rank > 0 ? 4 * s.hidden : 0);
  work.decided.resize(kMaxBatch * s.decisions);
  work.choices.resize(kMaxBatch * s.decisions);
  work.encoded.resize(kMaxBatch * s.joiner);
}

void Transcriber::run(std::span<TranscriberState* const> states, std::size_t steps, Workspace& work) const {
  const Shape& s = shape_;
  const std::size_t vectors = steps * states.size();
  const float *mean = floats_of(*mean_), *scale = floats_of(*scale_);
  work.used(*mean_, vectors);
  work.used(*scale_, vectors);
  float* feature = work.input.data();
  for (std::size_t frame = 0; frame < vectors * s.stack; ++frame)
    for (std::uint32_t band = 0; band < s.features; ++band, ++feature)
      *feature = (*feature - mean[band]) * scale[band];
  if (s.units > 0) decide(states, steps, work);
  enter_.multiply(work.input.data(), vectors, work.x.data(), work);
  for (std::size_t layer = 0; layer < s.layers; ++layer) run_layer(layer, states, steps, work);
  leave_norm_.apply(*floats_, work.x.data(), vectors, work.normal.data(), work);
  leave_.multiply(work.normal.data(), vectors, work.encoded.data(), work);
}

void Transcriber::decide(std::span<TranscriberState* const> states, std::size_t steps, Workspace& work) const {
  const std::size_t streams = states.size(), decisions = shape_.decisions;
  std::array<std::size_t, kMaxBatch> asked;
  std::size_t count = 0;
  for (std::size_t n = 0; n < streams; ++n)
    if (states[n]->choice == Choice::Arbitrated) asked[count++] = n;
  if (count > 0) ask_arbitrator(states, {asked.data(), count}, steps, work);
  const float* said = work.decided.data();
  std::uint8_t* choice = work.choices.data();
  for (std::size_t step = 0; step < steps; ++step) {
    for (TranscriberState* state : states) {
      for (std::size_t d = 0; d < decisions; ++d, ++choice) {
        const bool slow = state->choice == Choice::Arbitrated ? *said++ > 0 : state->choice == Choice::Slow;
        *choice = static_cast<std::uint8_t>(slow ? Branch::Slow : Branch::Fast);
        state->decisions.push_back(*choice);
      }
    }
  }
}

void Transcriber::ask_arbitrator(std::span<TranscriberState* const> states, std::span<const std::size_t> asked,
                                 std::size_t steps, Workspace& work) const {
  const std::size_t streams = states.size(), count = asked.size(), width = arbitrator_.input.cols();
  const std::size_t units = shape_.arbitrator;
  const float* input = work.input.data();
  if (count < streams) {
    float* to = work.gathered.data();
    for (std::size_t step = 0; step < steps; ++step)
      for (const std::size_t n : asked) to = std::copy_n(work.input.data() + (step * streams + n) * width, width, to);
    input = work.gathered.data();
  }
  arbitrator_.input.multiply(input, steps * count, work.gates[kSlow].data(), work);
  const float* gates = work.gates[kSlow].data();
  float* out = work.outer.data();
  for (std::size_t step = 0; step < steps; ++step) {
    for (std::size_t n = 0; n < count; ++n)
      std::copy_n(states[asked[n]]->arbitrator_hidden.data(), units, work.hidden.data() + n * units);
    arbitrator_.recurrent.multiply(work.hidden.data(), count, work.recurrent.data(), work);
    for (std::size_t n = 0; n < count; ++n, gates += 4 * units) {
      TranscriberState& state = *states[asked[n]];
      floats_->lstm(gates, work.recurrent.data() + n * 4 * units, units, state.arbitrator_hidden.data(),
                    state.arbitrator_cell.data());
      out = std::copy_n(state.arbitrator_hidden.data(), units, out);
    }
  }
  arbitrator_leave_.multiply(work.outer.data(), steps * count, work.decided.data(), work);
}

void Transcriber::run_layer(std::size_t layer, std::span<TranscriberState* const> states, std::size_t steps,
                            Workspace& work) const {
  const std::size_t width = shape_.hidden, streams = states.size();
  const std::size_t decision = shape_.decisions > 1 ? layer : 0;
  norms_[layer].apply(*floats_, work.x.data(), steps * streams, work.normal.data(), work);
  const auto branch_of = [&](std::size_t vector) {
    return shape_.units > 0 ? std::size_t{work.choices[vector * shape_.decisions + decision]} : kSlow;
  };
  std::array<std::size_t, kMaxBatch> vectors;
  const float* gates[kBranches];
  for (std::size_t branch = 0; branch < kBranches; ++branch) {
    std::size_t count = 0, turns = 0;  // steps in which a stream takes it
    for (std::size_t v = 0, last = steps; v < steps * streams; ++v) {
      if (branch_of(v) != branch) continue;
      vectors[count++] = v;
      turns += v / streams != last;
      last = v / streams;
    }
    gates[branch] = work.gates[branch].data();
    if (count == 0) continue;
    const Part& part = parts_[branch][layer];
    drive(part, {vectors.data(), count}, work.gates[branch].data(), work);
    part.recurrent.prepare(turns, branch, work);
    if (part.factorised) part.outer.prepare(turns, kBranches, work);
  }
  float* x = work.x.data();
  for (std::size_t step = 0; step < steps; ++step) {
    for (std::size_t branch = 0; branch < kBranches; ++branch) {
      TranscriberState* chosen[kMaxBatch];
      std::size_t count = 0;
      for (std::size_t n = 0; n < streams; ++n)
        if (branch_of(step * streams + n) == branch) chosen[count++] = states[n];
      if (count == 0) continue;
      const Part& part = parts_[branch][layer];
      this->step(part, layer, {chosen, count}, gates[branch], work);
      gates[branch] += count * part.input.rows();
    }
    for (std::size_t n = 0; n < streams; ++n, x += width)
      for (std::size_t i = 0; i < width; ++i) x[i] += states[n]->hidden[layer * width + i];
  }
}

void Transcriber::drive(const Part& part, std::span<const std::size_t> vectors, float* gates, Workspace& work) const {
  const std::size_t width = shape_.hidden;
  const float* x = work.normal.data() + vectors.front() * width;
  const bool in_a_row = vectors.back() - vectors.front() + 1 == vectors.size();
  if (!in_a_row || part.units < width) {
    float* to = work.gathered.data();
    for (const std::size_t v : vectors) to = std::copy_n(work.normal.data() + v * width, part.units, to);
    x = work.gathered.data();
  }
  part.input.multiply(x, vectors.size(), gates, work);
}

void Transcriber::step(const Part& part, std::size_t layer, std::span<TranscriberState* const> states,
                       const float* gates, Workspace& work) const {
  const std::size_t units = part.units, at = layer * shape_.hidden, rows = part.recurrent.rows();
  float* gathered = work.hidden.data();
  for (const TranscriberState* state : states) gathered = std::copy_n(state->hidden.data() + at, units, gathered);
  part.recurrent.multiply(work.hidden.data(), states.size(), work.recurrent.data(), work);
  const float* added = work.recurrent.data();
  if (part.factorised) {
    for (std::size_t i = 0; i < states.size() * rows; ++i) work.recurrent[i] += gates[i];
    part.outer.multiply(work.recurrent.data(), states.size(), work.outer.data(), work);
    gates = work.outer.data();
    added = nullptr;
  }
  for (std::size_t n = 0; n < states.size(); ++n)
    floats_->lstm(gates + n * 4 * units, added ? added + n * 4 * units : work.none.data(), units,
                  states[n]->hidden.data() + at, states[n]->cell.data() + at);
}

}  // namespace edgespeech
