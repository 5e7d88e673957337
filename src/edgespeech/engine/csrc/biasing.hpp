// Attention over a list of phrases, as edgespeech.model.biasing has it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "floats.hpp"
#include "layer.hpp"
#include "tensor_reader.hpp"
#include "workspace.hpp"

namespace edgespeech {

constexpr std::size_t kMaxListed = 4096;        // phrases of a list
constexpr std::size_t kMaxListedPieces = 64;    // word pieces of one of them

// What queries attend to; the first entry is no-bias, whose value is zero.
struct Memory {
  std::vector<float> keys;    // heads x entries x width / heads, divided by the root of width / heads
  std::vector<float> values;  // heads x width / heads x entries
};

// A list, encoded by one model. It never changes.
struct Context {
  std::size_t heads = 0, entries = 0;  // the latter with no-bias
  Memory audio, label;

  std::size_t bytes() const {
    return sizeof(float) * (audio.keys.size() + audio.values.size() + label.keys.size() + label.values.size());
  }
};

// The layers of one kind of query.
class Attention {
 public:
  Attention() = default;
  Attention(TensorReader& reader, const std::string& name, std::uint64_t joiner, std::uint64_t width, Isa isa);

  // Of encoded phrases, count x width.
  Memory remember(const std::vector<float>& encoded, std::size_t count, std::size_t heads, Workspace& work) const;
  // Adds what was attended to: x, vectors x joiner.
  void attend(const Memory& memory, std::size_t heads, std::size_t entries, float* x, std::size_t vectors,
              Workspace& work) const;

 private:
  Layer query_, key_, value_, out_;
  const Tensor* no_bias_ = nullptr;
  const FloatKernels* floats_ = nullptr;
};

class Biasing {
 public:
  static constexpr const char* kPrefix = "biasing.";

  // Throws std::runtime_error where a tensor is missing or of another shape.
  Biasing(TensorReader& reader, std::uint32_t vocabulary, std::uint32_t joiner, Isa isa);

  std::uint32_t width() const { return width_; }
  bool recurrent() const { return recurrent_; }
  bool label_queries() const { return label_queries_; }

  // Encodes a list. Throws std::invalid_argument where it is above the limits, has a label that is none, or the heads
  // do not share the width.
  Context encode(std::span<const std::vector<std::int32_t>> phrases, std::size_t heads, Workspace& work) const;
  void attend_audio(const Context& context, float* x, std::size_t vectors, Workspace& work) const;
  // Does nothing where labels do not ask.
  void attend_label(const Context& context, float* x, std::size_t vectors, Workspace& work) const;

 private:
  void encode_phrase(const std::vector<std::int32_t>& phrase, float* to, Workspace& work) const;
  // The last output of an LSTM over the rows.
  void run(const Lstm& lstm, const std::vector<float>& rows, bool backwards, float* to, Workspace& work) const;

  const FloatKernels* floats_;
  std::uint32_t vocabulary_, width_;
  bool recurrent_, label_queries_;
  const Tensor* embedding_;
  Lstm ahead_, back_;
  Layer leave_;
  Norm norm_;
  Attention audio_, label_;
};

}  // namespace edgespeech
