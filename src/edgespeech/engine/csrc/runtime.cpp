#include "runtime.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>
#include <stdexcept>

namespace edgespeech {
namespace {

constexpr std::size_t kMostUnpacked = std::size_t{1} << 20;  // bytes of a matrix, by what a core's own cache holds

void expect_finite(double value) {
  if (!std::isfinite(value))
    throw std::invalid_argument("model: a value of a layer overflowed, expected finite ones");
}

}  // namespace

// Takes tensors out of a file, each of a shape that is known by then, and remembers which.
class Model::Reader {
 public:
  Reader(const EdgeFile& file, const std::string& label, Isa isa) : file_(file), label_(label), isa_(isa) {}

  bool has(const std::string& name) const {
    return std::ranges::any_of(file_.tensors(), [&](const Tensor& tensor) { return tensor.name == name; });
  }

  // A tensor of any shape.
  const Tensor& any(const std::string& name) {
    if (!has(name)) throw std::runtime_error(label_ + ": there is no tensor " + name);
    taken_.insert(name);
    return file_.tensor(name);
  }

  const Tensor& matrix(const std::string& name, std::uint64_t rows, std::uint64_t cols) {
    const Tensor& tensor = any(name);
    if (tensor.rows != rows || tensor.cols != cols)
      fail(name, "shape", shown(tensor.rows, tensor.cols), shown(rows, cols));
    return tensor;
  }

  const float* vector(const std::string& name, std::uint64_t width) {
    const Tensor& tensor = matrix(name, 1, width);
    if (tensor.encoding != Encoding::Fp32)
      fail(name, "encoding", std::to_string(static_cast<int>(tensor.encoding)), "0 (fp32), as of every vector");
    return reinterpret_cast<const float*>(tensor.floats);
  }

  Norm norm(const std::string& name, std::uint64_t width) {
    return {vector(name + ".weight", width), vector(name + ".bias", width)};
  }

  Layer layer(const std::string& name, std::uint64_t rows, std::uint64_t cols) {
    const float* bias = vector(name + ".bias", rows);
    return {matrix(name + ".weight", rows, cols), bias, isa_};
  }

  Lstm lstm(const std::string& name, std::uint64_t width) {
    const float* bias = vector(name + ".bias", 4 * width);
    return {{matrix(name + ".weight_ih_l0", 4 * width, width), bias, isa_},
            {matrix(name + ".weight_hh_l0", 4 * width, width), nullptr, isa_}};
  }

  // How many `unit`s make up `total`.
  std::uint32_t parts(const std::string& name, std::uint32_t total, std::uint32_t unit) const {
    if (total % unit != 0) fail(name, "cols", std::to_string(total), "a multiple of " + std::to_string(unit));
    return total / unit;
  }

  void expect_all_taken() const {
    for (const Tensor& tensor : file_.tensors())
      if (!taken_.contains(tensor.name))
        throw std::runtime_error(label_ + ": tensor " + tensor.name + " is not one of this model's");
  }

  [[noreturn]] void fail(const std::string& name, const char* field, const std::string& found,
                         const std::string& expected) const {
    throw std::runtime_error(label_ + ": tensor " + name + ": " + field + " is " + found + ", expected " +
                             expected);
  }

 private:
  static std::string shown(std::uint64_t rows, std::uint64_t cols) {
    return std::to_string(rows) + " x " + std::to_string(cols);
  }

  const EdgeFile& file_;
  const std::string& label_;
  Isa isa_;
  std::set<std::string> taken_;
};

Layer::Layer(const Tensor& matrix, const float* bias, Isa isa)
    : matrix_(&matrix), bias_(bias), floats_(&float_kernels(isa)), isa_(isa) {
  if (matrix.encoding != Encoding::Codes) return;
  const std::size_t rows = matrix.rows, groups = matrix.packed.groups();
  if (groups == 1) return;
  turned_.resize(groups * rows);
  for (std::size_t row = 0; row < rows; ++row)
    for (std::size_t group = 0; group < groups; ++group)
      turned_[group * rows + row] = matrix.packed.scales[row * groups + group];
}

void Layer::multiply(const float* x, std::size_t batch, float* y, Workspace& work) const {
  const std::size_t rows = matrix_->rows, cols = matrix_->cols;
  if (matrix_->encoding == Encoding::Fp32) {
    floats_->product(reinterpret_cast<const float*>(matrix_->floats), rows, cols, x, batch, bias_, y);
  } else if (matrix_->encoding == Encoding::Fp16) {
    floats_->product_half(reinterpret_cast<const std::uint16_t*>(matrix_->floats), rows, cols, x, batch,
                          bias_, y);
  } else {
    for (std::size_t n = 0; n < batch; n += kMaxBatch)
      multiply_codes(x + n * cols, std::min(batch - n, kMaxBatch), y + n * rows, work);
  }
}

// Zeros take longer to put between the other weights than to multiply with. Codes without zeros are decoded sooner than
// what they become is written and read again.
void Layer::prepare(std::size_t products, Workspace& work) const {
  const PackedMatrix& matrix = matrix_->packed;
  if (products < 2 || work.unpacked_of == matrix_ || matrix_->encoding != Encoding::Codes || !matrix.sparse) return;
  if (std::size_t{matrix.rows} * matrix.cols > kMostUnpacked) return;
  unpack(isa_, matrix, work.unpacked, work.scratch);
  work.unpacked_of = matrix_;
}

void Layer::multiply_codes(const float* x, std::size_t batch, float* y, Workspace& work) const {
  const PackedMatrix& matrix = work.unpacked_of == matrix_ ? work.unpacked.packed : matrix_->packed;
  float scales[kMaxBatch];
  for (std::size_t n = 0; n < batch; ++n) {
    scales[n] = floats_->quantise(x + n * matrix.cols, matrix.cols, work.q.data() + n * matrix.cols);
    expect_finite(scales[n]);
  }
  edgespeech::multiply(isa_, matrix, work.q.data(), batch, work.integers.data(), work.scratch);
  const std::size_t sums = std::size_t{matrix.rows} * matrix.groups();
  const float* row_scales = turned_.empty() ? matrix.scales : turned_.data();
  for (std::size_t n = 0; n < batch; ++n)
    floats_->rescale(work.integers.data() + n * sums, row_scales, matrix.groups(), scales[n], bias_, matrix.rows,
                     y + n * matrix.rows);
}

Model::Model(std::shared_ptr<const EdgeFile> file, const std::string& label, Isa isa)
    : file_(std::move(file)), isa_(isa), floats_(&float_kernels(isa)) {
  Reader reader(*file_, label, isa);
  Shape& s = shape_;
  s.features = reader.any("transcriber.mean").cols;
  s.hidden = reader.any("transcriber.enter.weight").rows;
  s.stack = reader.parts("transcriber.enter.weight", reader.any("transcriber.enter.weight").cols, s.features);
  s.joiner = reader.any("transcriber.leave.1.weight").rows;
  s.vocabulary = reader.any("joiner.weight").rows;
  if (s.vocabulary < 2) reader.fail("joiner.weight", "rows", std::to_string(s.vocabulary), "at least 2");

  mean_ = reader.vector("transcriber.mean", s.features);
  scale_ = reader.vector("transcriber.scale", s.features);
  enter_ = reader.layer("transcriber.enter", s.hidden, std::uint64_t{s.stack} * s.features);
  do {
    const std::string number = std::to_string(s.layers++);
    norms_.push_back(reader.norm("transcriber.norms." + number, s.hidden));
    lstms_.push_back(reader.lstm("transcriber.lstms." + number, s.hidden));
  } while (reader.has("transcriber.lstms." + std::to_string(s.layers) + ".weight_ih_l0"));
  leave_norm_ = reader.norm("transcriber.leave.0", s.hidden);
  leave_ = reader.layer("transcriber.leave.1", s.joiner, s.hidden);
  embedding_ = &reader.matrix("predictor.embedding.weight", s.vocabulary, s.joiner);
  if (reader.has("predictor.mix.weight")) {
    s.context = reader.parts("predictor.mix.weight", reader.any("predictor.mix.weight").cols, s.joiner);
    mix_ = reader.layer("predictor.mix", s.joiner, std::uint64_t{s.context} * s.joiner);
  } else {
    predictor_lstm_ = reader.lstm("predictor.lstm", s.joiner);
  }
  predictor_leave_ = reader.layer("predictor.leave", s.joiner, s.joiner);
  joiner_ = reader.layer("joiner", s.vocabulary, s.joiner);
  if (reader.has(Fusion::kWeights))
    fusion_ = std::make_unique<Fusion>(reader.vector(Fusion::kWeights, 3), reader.any(Fusion::kHigh),
                                       reader.any(Fusion::kLow), s.vocabulary, label);
  reader.expect_all_taken();

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
  const Shape& s = shape_;
  auto work = std::make_unique<Workspace>();
  work->q.resize(kMaxBatch * most_columns_);
  work->integers.resize(kMaxBatch * most_sums_);
  work->input.resize(kMaxBatch * s.stack * s.features);
  for (auto* each : {&work->x, &work->normal, &work->hidden}) each->resize(kMaxBatch * s.hidden);
  for (auto* each : {&work->gates, &work->recurrent}) each->resize(kMaxBatch * 4 * s.hidden);
  work->encoded.resize(kMaxBatch * s.joiner);
  return work;
}

void Model::give_back(std::unique_ptr<Workspace> work) const {
  const std::lock_guard lock(mutex_);
  spare_.push_back(std::move(work));
}

TranscriberState Model::start() const {
  const std::size_t size = std::size_t{shape_.layers} * shape_.hidden;
  return {std::vector<float>(size), std::vector<float>(size)};
}

void Model::transcribe(std::span<TranscriberState* const> states, std::size_t steps, Workspace& work) const {
  const Shape& s = shape_;
  const std::size_t vectors = steps * states.size();
  float* feature = work.input.data();
  for (std::size_t frame = 0; frame < vectors * s.stack; ++frame)
    for (std::uint32_t band = 0; band < s.features; ++band, ++feature)
      *feature = (*feature - mean_[band]) * scale_[band];
  enter_.multiply(work.input.data(), vectors, work.x.data(), work);
  for (std::size_t layer = 0; layer < s.layers; ++layer) run_layer(layer, states, steps, work);
  normalise(leave_norm_, vectors, work);
  leave_.multiply(work.normal.data(), vectors, work.encoded.data(), work);
}

void Model::normalise(const Norm& norm, std::size_t vectors, Workspace& work) const {
  const std::size_t width = shape_.hidden;
  for (std::size_t v = 0; v < vectors; ++v)
    floats_->layer_norm(work.x.data() + v * width, norm.weight, norm.bias, width,
                        work.normal.data() + v * width);
}

void Model::run_layer(std::size_t layer, std::span<TranscriberState* const> states, std::size_t steps,
                      Workspace& work) const {
  const std::size_t width = shape_.hidden, streams = states.size(), at = layer * width;
  normalise(norms_[layer], steps * streams, work);
  // The input's part of the gates is computed for all steps at once, so that its weights are read once.
  lstms_[layer].input.multiply(work.normal.data(), steps * streams, work.gates.data(), work);
  lstms_[layer].recurrent.prepare(steps, work);
  const float* gates = work.gates.data();
  float* x = work.x.data();
  for (std::size_t step = 0; step < steps; ++step) {
    for (std::size_t n = 0; n < streams; ++n)
      std::copy_n(states[n]->hidden.data() + at, width, work.hidden.data() + n * width);
    lstms_[layer].recurrent.multiply(work.hidden.data(), streams, work.recurrent.data(), work);
    for (std::size_t n = 0; n < streams; ++n, gates += 4 * width, x += width) {
      float* hidden = states[n]->hidden.data() + at;
      floats_->lstm(gates, work.recurrent.data() + n * 4 * width, width, hidden, states[n]->cell.data() + at);
      for (std::size_t i = 0; i < width; ++i) x[i] += hidden[i];
    }
  }
}

PredictorState Model::start_predictor(Workspace& work) const {
  PredictorState state{std::vector<std::int32_t>(shape_.context, kBlank),
                       std::vector<float>(shape_.context == 0 ? 2 * std::size_t{shape_.joiner} : 0),
                       std::vector<float>(shape_.joiner)};
  PredictorState* const one = &state;
  advance({&one, 1}, &kBlank, work);  // a blank more or less before the first label changes nothing
  return state;
}

void Model::find_equal(std::span<PredictorState* const> states, const float* const* encoded, Workspace& work) const {
  work.rows.clear();
  work.first.clear();
  for (std::size_t n = 0; n < states.size(); ++n) {
    const auto equal = [&](std::size_t other) {
      return (encoded == nullptr || encoded[n] == encoded[other]) && states[n]->context == states[other]->context;
    };
    const auto found = shape_.context > 0 ? std::ranges::find_if(work.first, equal) : work.first.end();
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
  find_equal(work.unpredicted, nullptr, work);
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
      read_row(*embedding_, static_cast<std::uint32_t>(label), seen);
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
    read_row(*embedding_, static_cast<std::uint32_t>(labels[n]), seen + n * width);
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

void Model::join(std::span<PredictorState* const> states, const float* const* encoded,
                 Workspace& work) const {
  const std::size_t width = shape_.joiner, count = states.size(), vocabulary = shape_.vocabulary;
  find_equal(states, encoded, work);
  const std::size_t rows = work.first.size();
  work.joined.resize(std::max(work.joined.size(), rows * width));
  work.logits.resize(std::max(work.logits.size(), count * vocabulary));
  for (std::size_t row = 0; row < rows; ++row) {
    const std::size_t n = work.first[row];
    floats_->tanh_sum(encoded[n], states[n]->predicted.data(), width, work.joined.data() + row * width);
  }
  float* logits = work.logits.data();
  joiner_.multiply(work.joined.data(), rows, logits, work);
  for (std::size_t n = count; n-- > 0;)  // a state's row is not behind it: from the last one on, none is lost
    if (work.rows[n] != n) std::copy_n(logits + work.rows[n] * vocabulary, vocabulary, logits + n * vocabulary);
}

double Model::log_sum_exp(const float* logits) const {
  const double sum = floats_->log_sum_exp(logits, shape_.vocabulary);
  expect_finite(sum);
  return sum;
}

void read_row(const Tensor& matrix, std::uint32_t row, float* to) {
  const std::size_t cols = matrix.cols, first = row * cols;
  if (matrix.encoding == Encoding::Fp32) {
    std::memcpy(to, reinterpret_cast<const float*>(matrix.floats) + first, cols * sizeof(float));
    return;
  }
  if (matrix.encoding == Encoding::Fp16) {
    const auto* halves = reinterpret_cast<const std::uint16_t*>(matrix.floats) + first;
    std::transform(halves, halves + cols, to, half_to_float);
    return;
  }
  const PackedMatrix& packed = matrix.packed;
  const std::uint8_t* values = packed.values + packed.row_start[row];
  const std::uint64_t* masks = packed.sparse ? packed.masks + std::size_t{row} * packed.words() : nullptr;
  const float* scales = packed.scales + std::size_t{row} * packed.groups();
  std::size_t bit = 0;
  for (std::size_t column = 0; column < cols; ++column) {
    to[column] = 0;
    if (masks && !(masks[column / 64] >> column % 64 & 1)) continue;
    const std::uint32_t pair = values[bit / 8] | std::uint32_t{values[bit / 8 + 1]} << 8;  // within kOverRead
    const auto code = static_cast<std::int32_t>(pair >> bit % 8 & ((1u << packed.bits) - 1));
    const std::int32_t weight = packed.codebook ? packed.codebook[code] : code - (1 << (packed.bits - 1));
    to[column] = scales[packed.group == 0 ? 0 : column / packed.group] * static_cast<float>(weight);
    bit += packed.bits;
  }
}

}  // namespace edgespeech
