// What was computed from a few labels, for when the same labels come again: in every frame a beam search tries mostly
// the labels that it tried in the frame before.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace edgespeech {

class Memo {
 public:
  // For keys of so many labels and results of so many values. Forgets everything where those are not as before.
  void shape(std::size_t labels, std::size_t values) {
    if (labels == labels_ && values == values_) return;
    labels_ = labels;
    values_ = values;
    keys_.assign(kSlots * labels, kNone);
    results_.resize(kSlots * values);
  }

  // What was computed from these labels; nullptr where it is not there, or no longer.
  const float* find(const std::int32_t* labels) const {
    const std::size_t slot = slot_of(labels);
    if (!std::equal(labels, labels + labels_, keys_.data() + slot * labels_)) return nullptr;
    return results_.data() + slot * values_;
  }

  // Where to put what is computed from these labels.
  float* put(const std::int32_t* labels) {
    const std::size_t slot = slot_of(labels);
    std::copy_n(labels, labels_, keys_.data() + slot * labels_);
    return results_.data() + slot * values_;
  }

 private:
  static constexpr std::size_t kSlots = 512;  // a key has one that it may be in; the last one stays
  static constexpr std::int32_t kNone = -1;

  std::size_t slot_of(const std::int32_t* labels) const {
    std::uint64_t hash = 0;
    for (std::size_t i = 0; i < labels_; ++i)
      hash = (hash ^ static_cast<std::uint32_t>(labels[i])) * 0x9E3779B97F4A7C15u;
    return hash >> 55;
  }

  std::size_t labels_ = 0, values_ = 0;
  std::vector<std::int32_t> keys_;
  std::vector<float> results_;
};

}  // namespace edgespeech
