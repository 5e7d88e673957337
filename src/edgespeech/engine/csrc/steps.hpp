// Labels of the paths of a search as a tree: paths that begin alike share their beginning, and a path goes on in a time
// that does not grow with its length.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace edgespeech {

class Steps {
 public:
  // A label, the frame in which it was emitted, and where the path was before: a number that `add` gave.
  struct Step {
    std::uint32_t parent, length;  // length: labels up to this one
    std::int32_t label, frame;
    std::uint64_t hash;  // of the labels
  };
  static constexpr std::uint32_t kNone = 0;  // before the first label

  Steps() : steps_{{kNone, 0, -1, -1, 0}} {}

  const Step& operator[](std::uint32_t at) const { return steps_[at]; }
  std::size_t size() const { return steps_.size(); }

  std::uint32_t add(std::uint32_t parent, std::int32_t label, std::int32_t frame) {
    const Step& before = steps_[parent];
    const std::uint64_t hash = (before.hash ^ static_cast<std::uint32_t>(label)) * 1099511628211u + 1;
    steps_.push_back({parent, before.length + 1, label, frame, hash});
    return static_cast<std::uint32_t>(steps_.size() - 1);
  }

  // Whether two paths have the same labels, perhaps in other frames.
  bool same_labels(std::uint32_t a, std::uint32_t b) const {
    if (steps_[a].hash != steps_[b].hash || steps_[a].length != steps_[b].length) return false;
    for (; a != b; a = steps_[a].parent, b = steps_[b].parent)
      if (steps_[a].label != steps_[b].label) return false;
    return true;
  }

  // The last step that two paths share.
  std::uint32_t shared(std::uint32_t a, std::uint32_t b) const {
    while (a != b) {
      std::uint32_t& longer = steps_[a].length < steps_[b].length ? b : a;
      longer = steps_[longer].parent;
    }
    return a;
  }

  // To `to`, the last `most` labels of a path, or all where there are fewer, in their order. Returns how many.
  std::size_t tail(std::uint32_t at, std::size_t most, std::int32_t* to) const {
    const std::size_t count = steps_[at].length < most ? steps_[at].length : most;
    for (std::size_t i = count; i-- > 0; at = steps_[at].parent) to[i] = steps_[at].label;
    return count;
  }

  // The labels of a path and their frames, without those up to `from`, a step of it.
  void write(std::uint32_t at, std::uint32_t from, std::vector<std::int32_t>& labels,
             std::vector<std::int32_t>& frames) const {
    const std::size_t count = steps_[at].length - steps_[from].length;
    labels.resize(count);
    frames.resize(count);
    for (std::size_t i = count; i-- > 0; at = steps_[at].parent) {
      labels[i] = steps_[at].label;
      frames[i] = steps_[at].frame;
    }
  }

  // Whether so much was added that a sweep is worth its time, which is linear in what is there.
  bool sweep_is_due() const { return steps_.size() > limit_; }
  // Forgets what no path needs, and gives those their new numbers.
  void sweep(std::span<std::uint32_t* const> paths) {
    std::vector<std::uint32_t> moved(steps_.size(), 0);  // 1: kept
    for (const std::uint32_t* path : paths)
      for (std::uint32_t at = *path; at != kNone && moved[at] == 0; at = steps_[at].parent) moved[at] = 1;
    std::uint32_t count = 1;
    for (std::uint32_t at = 1; at < moved.size(); ++at) {  // a step's parent comes before it
      if (moved[at] == 0) continue;
      steps_[count] = steps_[at];
      steps_[count].parent = moved[steps_[at].parent];
      moved[at] = count++;
    }
    steps_.resize(count);
    limit_ = 2 * steps_.size() + kAtLeast;
    for (std::uint32_t* path : paths) *path = moved[*path];
  }

 private:
  static constexpr std::size_t kAtLeast = 4096;

  std::vector<Step> steps_;
  std::size_t limit_ = kAtLeast;
};

}  // namespace edgespeech
