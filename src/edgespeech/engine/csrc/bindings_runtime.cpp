// The binding of models and streams; edgespeech.packed.runtime is the face of it.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "bindings.hpp"
#include "log_mel.hpp"
#include "stream.hpp"

namespace nb = nanobind;

namespace edgespeech {
namespace {

using Frames = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Batch = nb::ndarray<const float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using Samples = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Rows = nb::ndarray<nb::numpy, float, nb::ndim<2>>;
using Decisions = nb::ndarray<nb::numpy, std::uint8_t, nb::ndim<2>>;
using Uses = std::vector<std::tuple<std::string, std::uint64_t, std::uint64_t>>;
using Found = std::tuple<std::vector<std::int32_t>, std::vector<std::int32_t>, double>;
using News = std::tuple<std::size_t, std::vector<std::int32_t>, std::vector<std::int32_t>, double>;

Rows rows_of(std::unique_ptr<std::vector<float>> values, std::size_t width) {
  float* data = values->data();
  const std::size_t rows = values->size() / width;
  return Rows(data, {rows, width}, owner_of(values.release()));
}

void check_features(const std::string& where, const Model& model, std::size_t bands, const float* features,
                    std::size_t count) {
  if (bands != model.shape().features)
    throw std::invalid_argument(where + ": features have " + std::to_string(bands) + " bands, expected " +
                                std::to_string(model.shape().features));
  if (!std::all_of(features, features + count, [](float value) { return std::isfinite(value); }))
    throw std::invalid_argument(where + ": features hold a value that is not finite, expected finite values");
}

// A stream that can be closed, and that one thread uses at a time.
class OpenStream {
 public:
  OpenStream(std::string path, std::shared_ptr<const Model> model, std::size_t beam,
             std::shared_ptr<const Phrases> phrases, std::shared_ptr<const Context> context)
      : path_(std::move(path)),
        stream_(std::make_unique<Stream>(std::move(model), beam, std::move(phrases), std::move(context))) {}

  void accept(Frames features) {
    OpenStream* const one = this;
    accept_all({&one, 1}, features.data(), features.shape(0), features.shape(1));
  }

  static void accept_batch(const std::vector<OpenStream*>& streams, Batch features) {
    const std::string where = streams.empty() ? "accept_batch" : streams[0]->path_;
    if (streams.empty() || streams.size() > kMaxBatch)
      throw std::invalid_argument(where + ": got " + std::to_string(streams.size()) +
                                  " streams, expected 1 to 8");
    if (features.shape(0) != streams.size())
      throw std::invalid_argument(where + ": got features of " + std::to_string(features.shape(0)) +
                                  " streams, expected " + std::to_string(streams.size()));
    accept_all(streams, features.data(), features.shape(1), features.shape(2));
  }

  void accept_encoded(Frames encoded) {
    const nb::gil_scoped_release released;
    const Claim claim(*this);
    const std::size_t width = stream_->model().shape().joiner;
    if (encoded.shape(1) != width)
      throw std::invalid_argument(path_ + ": transcriber frames have " + std::to_string(encoded.shape(1)) +
                                  " values, expected " + std::to_string(width));
    if (!std::all_of(encoded.data(), encoded.data() + encoded.size(), [](float value) { return std::isfinite(value); }))
      throw std::invalid_argument(path_ + ": transcriber frames hold a value that is not finite, expected finite values");
    begun_ = true;
    try {
      stream_->accept_encoded(encoded.data(), encoded.shape(0));
    } catch (...) {  // half-way: of no use any more
      stream_.reset();
      throw;
    }
  }

  void lead_in(Frames features) {
    const nb::gil_scoped_release released;
    const Claim claim(*this);
    if (begun_)
      throw std::invalid_argument(path_ + ": a lead-in behind the first frames, expected it before them");
    check_features(path_ + ": lead-in", stream_->model(), features.shape(1), features.data(), features.size());
    begun_ = true;
    try {
      stream_->lead_in(features.data(), features.shape(0));
    } catch (...) {  // half-way: of no use any more
      stream_.reset();
      throw;
    }
  }

  std::vector<Found> n_best() {
    const Claim claim(*this);
    std::vector<Found> found;
    for (const auto& [path, score] : stream_->search().ranked()) found.push_back(told(*path, score));
    return found;
  }

  Found best() {
    const Claim claim(*this);
    const auto [path, score] = stream_->search().ranked()[0];
    return told(*path, score);
  }

  News news() {
    const Claim claim(*this);
    Emitted emitted;
    double score;
    const std::size_t kept = stream_->search().news(emitted, score);
    return {kept, std::move(emitted.labels), std::move(emitted.frames), score};
  }

  std::size_t state_bytes() {
    const Claim claim(*this);
    return stream_->state_bytes();
  }

  Decisions decisions() {
    const Claim claim(*this);
    const auto said = stream_->decisions();
    const std::size_t width = expect_branches();
    auto kept = std::make_unique<std::vector<std::uint8_t>>(said.begin(), said.end());
    std::uint8_t* data = kept->data();
    return Decisions(data, {said.size() / width, width}, owner_of(kept.release()));
  }

  void choose(std::uint8_t choice) {
    const Claim claim(*this);
    expect_branches();
    if (choice > static_cast<std::uint8_t>(Choice::Arbitrated))
      throw std::invalid_argument(path_ + ": choice is " + std::to_string(choice) + ", expected 0, 1 or 2");
    stream_->choose(Choice{choice});
  }

  void close() {
    const Claim claim(*this, true);
    stream_.reset();
  }

 private:
  // The use of a stream for as long as this lives.
  class Claim {
   public:
    explicit Claim(OpenStream& stream, bool closed_too = false) : stream_(stream) {
      if (stream.in_use_.test_and_set())
        throw std::invalid_argument(stream.path_ + ": the stream is in use by another call");
      if (stream.stream_ || closed_too) return;
      stream.in_use_.clear();
      throw std::invalid_argument(stream.path_ + ": the stream is closed");
    }
    ~Claim() { stream_.in_use_.clear(); }
    Claim(const Claim&) = delete;
    Claim& operator=(const Claim&) = delete;

   private:
    OpenStream& stream_;
  };

  Found told(const Path& path, double score) const {
    Emitted emitted = stream_->search().emitted(path);
    return {std::move(emitted.labels), std::move(emitted.frames), score};
  }

  // Decisions in a frame.
  std::size_t expect_branches() const {
    const std::size_t decisions = stream_->model().shape().decisions;
    if (decisions == 0) throw std::invalid_argument(path_ + ": the model has one branch, expected two");
    return decisions;
  }

  // A stream that fails half-way is closed.
  static void accept_all(std::span<OpenStream* const> open, const float* features, std::size_t frames,
                         std::size_t bands) {
    const nb::gil_scoped_release released;
    std::optional<Claim> claims[kMaxBatch];
    Stream* streams[kMaxBatch];
    for (std::size_t n = 0; n < open.size(); ++n) {
      claims[n].emplace(*open[n]);
      streams[n] = open[n]->stream_.get();
      if (&streams[n]->model() != &streams[0]->model())
        throw std::invalid_argument(open[n]->path_ + ": the streams are of two models, expected one");
    }
    check_features(open[0]->path_, streams[0]->model(), bands, features, open.size() * frames * bands);
    for (OpenStream* each : open) each->begun_ = true;
    try {
      Stream::accept({streams, open.size()}, features, frames);
    } catch (...) {
      for (OpenStream* each : open) each->stream_.reset();
      throw;
    }
  }

  std::string path_;
  std::unique_ptr<Stream> stream_;
  bool begun_ = false;  // whether it was given anything
  std::atomic_flag in_use_;
};

// A list of phrases, and the model that encoded it.
struct OpenContext {
  std::shared_ptr<const Model> model;
  std::shared_ptr<const Context> context;

  std::size_t bytes() const { return context->bytes(); }
};

// A model that can be closed; its streams keep what they need of it.
class OpenModel {
 public:
  OpenModel(const std::string& path, const std::optional<std::string>& isa)
      : path_(path),
        model_(std::make_shared<const Model>(std::make_shared<const EdgeFile>(path), path,
                                             isa ? isa_named(*isa) : chosen_isa())) {}

  void close() { model_.reset(); }
  std::string meta() const { return std::string(model()->file().meta()); }
  std::uint64_t packed_bytes() const { return model()->file().packed_bytes(); }
  std::size_t copied_bytes() const { return model()->copied_bytes(); }
  std::string isa() const { return name(model()->isa()); }

  nb::dict shape() const {
    const Shape shape = model()->shape();
    nb::dict told;
    told["features"] = shape.features;
    told["stack"] = shape.stack;
    told["layers"] = shape.layers;
    told["hidden"] = shape.hidden;
    told["joiner"] = shape.joiner;
    told["vocabulary"] = shape.vocabulary;
    told["context"] = shape.context;
    return told;
  }

  nb::dict branches() const {
    const Shape shape = model()->shape();
    nb::dict told;
    if (shape.decisions == 0) return told;
    told["units"] = shape.units;
    told["rank"] = shape.rank;
    told["arbitrator"] = shape.arbitrator;
    told["decisions"] = shape.decisions;
    return told;
  }

  Uses uses() const {
    const auto kept = model();
    const std::vector<Use> uses = kept->uses();
    Uses told;
    for (const Tensor& tensor : kept->file().tensors())
      told.emplace_back(tensor.name, uses[tensor.number].bytes, uses[tensor.number].vectors);
    return told;
  }

  nb::dict biasing() const {
    nb::dict told;
    const auto kept = model();
    if (const Biasing* layers = kept->biasing()) {
      told["encoder"] = layers->recurrent() ? "blstm" : "mean";
      told["queries"] = layers->label_queries() ? "audio_label" : "audio";
      told["width"] = layers->width();
    }
    return told;
  }

  OpenContext encode(const std::vector<std::vector<std::int32_t>>& phrases, std::size_t heads) const {
    const auto kept = model();
    if (!kept->biasing()) throw std::invalid_argument(path_ + ": the model has no attention over phrases");
    const nb::gil_scoped_release released;
    const WorkspaceLease work(*kept);
    return {kept, std::make_shared<const Context>(kept->biasing()->encode(phrases, heads, *work))};
  }

  OpenStream* open(std::size_t beam, std::shared_ptr<Phrases> phrases, const OpenContext* context) const {
    const auto kept = model();
    if (context && context->model != kept)
      throw std::invalid_argument(path_ + ": the context was encoded by another model");
    if (phrases && phrases->vocabulary() != kept->shape().vocabulary)
      throw std::invalid_argument(path_ + ": phrases are of " + std::to_string(phrases->vocabulary()) +
                                  " word pieces, expected " + std::to_string(kept->shape().vocabulary));
    return new OpenStream(path_, kept, beam, std::move(phrases), context ? context->context : nullptr);
  }

  Rows transcribe(Frames features) const {
    const auto kept = model();
    std::unique_ptr<std::vector<float>> encoded;
    {
      const nb::gil_scoped_release released;
      check_features(path_, *kept, features.shape(1), features.data(), features.size());
      encoded = std::make_unique<std::vector<float>>(
          edgespeech::transcribe(*kept, features.data(), features.shape(0)));
    }
    return rows_of(std::move(encoded), kept->shape().joiner);
  }

 private:
  std::shared_ptr<const Model> model() const {
    if (!model_) throw std::invalid_argument(path_ + ": the model is closed");
    return model_;
  }

  std::string path_;
  std::shared_ptr<const Model> model_;
};

class OpenLogMel {
 public:
  explicit OpenLogMel(const std::optional<std::string>& isa) : features_(isa ? isa_named(*isa) : chosen_isa()) {}

  Rows accept(Samples samples) {
    auto frames = std::make_unique<std::vector<float>>();
    features_.accept(samples.data(), samples.shape(0), *frames);
    return rows_of(std::move(frames), LogMelTables::kBands);
  }

  Rows finish() {
    auto frames = std::make_unique<std::vector<float>>();
    features_.finish(*frames);
    return rows_of(std::move(frames), LogMelTables::kBands);
  }

 private:
  LogMel features_;
};

}  // namespace

void bind_runtime(nb::module_& module) {
  module.attr("MAX_LABELS") = kMaxLabels;
  module.attr("MAX_LISTED_PIECES") = kMaxListedPieces;
  module.attr("BRANCHES") = nb::make_tuple("fast", "slow", nb::none());  // by Choice; None asks the arbitrator
  nb::class_<OpenStream>(module, "Stream", "An utterance in progress; see edgespeech.packed.runtime.")
      .def("accept", &OpenStream::accept, nb::arg("features").noconvert())
      .def("accept_encoded", &OpenStream::accept_encoded, nb::arg("encoded").noconvert())
      .def("lead_in", &OpenStream::lead_in, nb::arg("features").noconvert())
      .def_prop_ro("best", &OpenStream::best)
      .def_prop_ro("n_best", &OpenStream::n_best)
      .def("news", &OpenStream::news)
      .def_prop_ro("state_bytes", &OpenStream::state_bytes)
      .def_prop_ro("decisions", &OpenStream::decisions, nb::rv_policy::move)
      .def("choose", &OpenStream::choose, nb::arg("choice"))
      .def("close", &OpenStream::close);
  nb::class_<OpenLogMel>(module, "LogMel", "Features of one stream of samples; see edgespeech.packed.log_mel.")
      .def(nb::init<const std::optional<std::string>&>(), nb::arg("isa") = nb::none())
      .def("accept", &OpenLogMel::accept, nb::arg("samples").noconvert())
      .def("finish", &OpenLogMel::finish);
  nb::class_<OpenContext>(module, "Context", "A list of phrases, encoded by a model; see edgespeech.packed.runtime.")
      .def_prop_ro("bytes", &OpenContext::bytes);
  nb::class_<OpenModel>(module, "Model", "A packed model in memory; see edgespeech.packed.runtime.")
      .def(nb::init<const std::string&, const std::optional<std::string>&>(), nb::arg("path"),
           nb::arg("isa") = nb::none(), nb::call_guard<nb::gil_scoped_release>())
      .def("close", &OpenModel::close)
      .def_prop_ro("meta", &OpenModel::meta)
      .def_prop_ro("packed_bytes", &OpenModel::packed_bytes)
      .def_prop_ro("copied_bytes", &OpenModel::copied_bytes)
      .def_prop_ro("isa", &OpenModel::isa)
      .def_prop_ro("shape", &OpenModel::shape)
      .def_prop_ro("branches", &OpenModel::branches)
      .def_prop_ro("uses", &OpenModel::uses)
      .def_prop_ro("biasing", &OpenModel::biasing)
      .def("encode", &OpenModel::encode, nb::arg("phrases"), nb::arg("heads"))
      .def("open", &OpenModel::open, nb::arg("beam"), nb::arg("phrases") = nb::none(),
           nb::arg("context") = nb::none())
      .def("transcribe", &OpenModel::transcribe, nb::arg("features").noconvert());
  module.def("accept_batch", &OpenStream::accept_batch, nb::arg("streams"), nb::arg("features").noconvert(),
             "Advances streams of one model together: features with shape (N, F, 80).");
}

}  // namespace edgespeech
