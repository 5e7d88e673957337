#include "biasing.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace edgespeech {

Attention::Attention(TensorReader& reader, const std::string& name, std::uint64_t joiner, std::uint64_t width,
                     Isa isa)
    : query_(reader.layer(name + ".query", width, joiner)),
      key_(reader.layer(name + ".key", width, width)),
      value_(reader.layer(name + ".value", width, width)),
      out_(reader.plain(name + ".out.weight", joiner, width)),
      no_bias_(&reader.vector(name + ".no_bias", width)),
      floats_(&float_kernels(isa)) {}

Memory Attention::remember(const std::vector<float>& encoded, std::size_t count, std::size_t heads,
                           Workspace& work) const {
  const std::size_t width = key_.rows(), each = width / heads, entries = count + 1;
  std::vector<float> keys(entries * width), values(entries * width);
  std::copy_n(floats_of(*no_bias_), width, keys.data());
  key_.multiply(encoded.data(), count, keys.data() + width, work);
  value_.multiply(encoded.data(), count, values.data() + width, work);
  const auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(each)));
  Memory memory{std::vector<float>(entries * width), std::vector<float>(entries * width)};
  for (std::size_t entry = 0; entry < entries; ++entry) {
    for (std::size_t i = 0; i < width; ++i) {
      const std::size_t head = i / each, place = i % each;
      memory.keys[(head * entries + entry) * each + place] = keys[entry * width + i] * scale;
      memory.values[(head * each + place) * entries + entry] = values[entry * width + i];
    }
  }
  return memory;
}

void Attention::attend(const Memory& memory, std::size_t heads, std::size_t entries, float* x, std::size_t vectors,
                       Workspace& work) const {
  const std::size_t width = query_.rows(), joiner = query_.cols(), each = width / heads;
  auto& [queries, own, scores, mixed, added] = work.attention;
  const auto room = [](std::vector<float>& values, std::size_t size) {
    if (values.size() < size) values.resize(size);
  };
  room(queries, vectors * width);
  room(own, vectors * each);
  room(scores, vectors * entries);
  room(mixed, vectors * width);
  room(added, vectors * joiner);
  query_.multiply(x, vectors, queries.data(), work);
  for (std::size_t head = 0; head < heads; ++head) {
    for (std::size_t n = 0; n < vectors; ++n)
      std::copy_n(queries.data() + n * width + head * each, each, own.data() + n * each);
    floats_->product(memory.keys.data() + head * entries * each, entries, each, own.data(), vectors, nullptr,
                     scores.data());
    for (std::size_t n = 0; n < vectors; ++n) floats_->softmax(scores.data() + n * entries, entries);
    floats_->product(memory.values.data() + head * each * entries, each, entries, scores.data(), vectors, nullptr,
                     own.data());
    for (std::size_t n = 0; n < vectors; ++n)
      std::copy_n(own.data() + n * each, each, mixed.data() + n * width + head * each);
  }
  out_.multiply(mixed.data(), vectors, added.data(), work);
  for (std::size_t i = 0; i < vectors * joiner; ++i) x[i] += added[i];
}

Biasing::Biasing(TensorReader& reader, std::uint32_t vocabulary, std::uint32_t joiner, Isa isa)
    : floats_(&float_kernels(isa)),
      vocabulary_(vocabulary),
      width_(reader.any("biasing.encoder.embedding.weight").cols),
      recurrent_(reader.has_any("biasing.encoder.ahead.")),
      label_queries_(reader.has_any("biasing.label.")),
      embedding_(&reader.matrix("biasing.encoder.embedding.weight", vocabulary, width_)) {
  if (recurrent_) {
    ahead_ = reader.lstm("biasing.encoder.ahead", width_, width_);
    back_ = reader.lstm("biasing.encoder.back", width_, width_);
  }
  leave_ = reader.layer("biasing.encoder.leave", width_, std::uint64_t{width_} * (recurrent_ ? 2 : 1));
  norm_ = reader.norm("biasing.encoder.norm", width_);
  audio_ = Attention(reader, "biasing.audio", joiner, width_, isa);
  if (label_queries_) label_ = Attention(reader, "biasing.label", joiner, width_, isa);
}

Context Biasing::encode(std::span<const std::vector<std::int32_t>> phrases, std::size_t heads,
                        Workspace& work) const {
  if (heads == 0 || width_ % heads != 0)
    throw std::invalid_argument("context: heads is " + std::to_string(heads) + ", expected a divisor of " +
                                std::to_string(width_));
  if (phrases.size() > kMaxListed)
    throw std::invalid_argument("context: phrases is " + std::to_string(phrases.size()) + ", expected at most " +
                                std::to_string(kMaxListed));
  std::vector<float> encoded(phrases.size() * width_);
  for (std::size_t n = 0; n < phrases.size(); ++n) {
    const std::string which = std::to_string(n + 1);
    if (phrases[n].empty() || phrases[n].size() > kMaxListedPieces)
      throw std::invalid_argument("context: word pieces of phrase " + which + " is " +
                                  std::to_string(phrases[n].size()) + ", expected 1 to " +
                                  std::to_string(kMaxListedPieces));
    for (const std::int32_t label : phrases[n])
      if (label < 1 || static_cast<std::uint32_t>(label) >= vocabulary_)
        throw std::invalid_argument("context: label in phrase " + which + " is " + std::to_string(label) +
                                    ", expected 1 to " + std::to_string(vocabulary_ - 1));
    encode_phrase(phrases[n], encoded.data() + n * width_, work);
  }
  Context context{heads, phrases.size() + 1, audio_.remember(encoded, phrases.size(), heads, work), {}};
  if (label_queries_) context.label = label_.remember(encoded, phrases.size(), heads, work);
  return context;
}

void Biasing::encode_phrase(const std::vector<std::int32_t>& phrase, float* to, Workspace& work) const {
  std::vector<float> rows(phrase.size() * width_), found(2 * width_), left(width_);
  for (std::size_t i = 0; i < phrase.size(); ++i)
    look_up(*embedding_, static_cast<std::uint32_t>(phrase[i]), rows.data() + i * width_, work);
  if (recurrent_) {
    run(ahead_, rows, false, found.data(), work);
    run(back_, rows, true, found.data() + width_, work);
  } else {
    for (std::size_t i = 0; i < rows.size(); ++i) found[i % width_] += rows[i];
    for (std::size_t i = 0; i < width_; ++i) found[i] /= static_cast<float>(phrase.size());
  }
  leave_.multiply(found.data(), 1, left.data(), work);
  norm_.apply(*floats_, left.data(), 1, to, work);
}

void Biasing::run(const Lstm& lstm, const std::vector<float>& rows, bool backwards, float* to,
                  Workspace& work) const {
  const std::size_t count = rows.size() / width_;
  std::vector<float> driven(4 * rows.size()), recurrent(4 * width_), cell(width_);
  lstm.input.multiply(rows.data(), count, driven.data(), work);
  std::fill_n(to, width_, 0.0f);
  for (std::size_t step = 0; step < count; ++step) {
    const std::size_t at = backwards ? count - 1 - step : step;
    lstm.recurrent.multiply(to, 1, recurrent.data(), work);
    floats_->lstm(driven.data() + at * 4 * width_, recurrent.data(), width_, to, cell.data());
  }
}

void Biasing::attend_audio(const Context& context, float* x, std::size_t vectors, Workspace& work) const {
  audio_.attend(context.audio, context.heads, context.entries, x, vectors, work);
}

void Biasing::attend_label(const Context& context, float* x, std::size_t vectors, Workspace& work) const {
  if (label_queries_) label_.attend(context.label, context.heads, context.entries, x, vectors, work);
}

}  // namespace edgespeech
