#include "search.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace edgespeech {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

double add_logs(double a, double b) {
  const double most = std::max(a, b);
  return most == -kInfinity ? most : most + std::log1p(std::exp(std::min(a, b) - most));
}

// In every frame the likeliest label, until it is the blank.
class Greedy final : public Search {
 public:
  Greedy(PredictorState start, std::shared_ptr<const Phrases> phrases) : Search(std::move(phrases)) {
    path_.state = std::move(start);
    if (phrases_) path_.place = phrases_->start();
  }

  std::span<const Path> best() const override { return {&path_, 1}; }

 private:
  void begin() override { inside_ = true; }
  std::span<Path> inside() override { return {&path_, inside_ ? 1u : 0u}; }

  void take(const Model& model, int spent, const float* logits, const double* log_sums, Workspace&) override {
    const double sum = log_sums[0];
    if (phrases_) logits = biased(model, logits);
    std::int32_t label = kBlank;
    if (spent < kMaxLabels)
      label = static_cast<std::int32_t>(std::max_element(logits, logits + model.shape().vocabulary) - logits);
    path_.score += logits[label] - sum;
    inside_ = label != kBlank;
    if (inside_) {
      append(path_, label, frame_);
    } else {
      ++frame_;
    }
  }

  const float* biased(const Model& model, const float* logits) {
    const std::size_t vocabulary = model.shape().vocabulary;
    path_.bonus.assign(vocabulary, 0);
    phrases_->add_row(path_.place, true, path_.bonus.data());
    const double less = moved(model, logits, nullptr, path_.bonus);
    biased_.assign(logits, logits + vocabulary);
    for (std::size_t label = kBlank + 1; label < vocabulary; ++label)
      biased_[label] += static_cast<float>(path_.bonus[label] - less);
    return biased_.data();
  }

  Path path_;
  std::vector<float> biased_;
  bool inside_ = false;
  std::int32_t frame_ = 0;
};

// Paths of which those that were dropped keep their memory for those to come.
class Paths {
 public:
  std::span<Path> all() { return {paths_.data(), count_}; }
  std::span<const Path> all() const { return {paths_.data(), count_}; }
  void clear() { count_ = 0; }
  Path& add(const Path& path) {
    if (count_ == paths_.size()) {
      paths_.push_back(path);
    } else {
      paths_[count_] = path;
    }
    return paths_[count_++];
  }
  void swap(Paths& other) {
    paths_.swap(other.paths_);
    std::swap(count_, other.count_);
  }

 private:
  std::vector<Path> paths_;
  std::size_t count_ = 0;
};

// Time-synchronous search that adds up the alignments of a label sequence. Among equal scores the first comes
// first: paths as they came, extensions by parent and label.
class Beam final : public Search {
 public:
  Beam(PredictorState start, std::size_t beam, std::shared_ptr<const Phrases> phrases)
      : Search(std::move(phrases)), beam_(beam) {
    Path path;
    path.state = std::move(start);
    if (phrases_) path.place = phrases_->start();
    paths_.add(path);
  }

  std::span<const Path> best() const override { return paths_.all(); }

 private:
  struct Extension {
    double total;
    std::size_t parent;
    std::int32_t label;
    double added;  // to the parent's score

    bool operator<(const Extension& other) const {  // which one is better
      return total != other.total ? total > other.total
                                  : std::pair(parent, label) < std::pair(other.parent, other.label);
    }
  };

  void begin() override {
    inside_.swap(paths_);
    left_.clear();
  }

  std::span<Path> inside() override { return inside_.all(); }

  void take(const Model& model, int spent, const float* logits, const double* log_sums, Workspace& work) override {
    const std::size_t vocabulary = model.shape().vocabulary;
    const std::span<Path> inside = inside_.all();
    moved_.clear();
    for (std::size_t p = 0; p < inside.size(); ++p) {
      score(model, inside[p], logits + p * vocabulary, work);
      leave(inside[p], logits[p * vocabulary + kBlank] - log_sums[p]);
    }
    if (spent < kMaxLabels) {
      extend(logits, log_sums, vocabulary, floor());
    } else {
      inside_.clear();
    }
    if (inside_.all().empty()) keep_best();
  }

  // What fusion and phrases add for each next label.
  void score(const Model& model, Path& path, const float* logits, Workspace& work) {
    if (model.fusion() && path.fused.empty()) {
      tail_.resize(model.fusion()->context());
      const std::size_t count = steps_.tail(path.last, tail_.size(), tail_.data());
      model.fusion()->scores(tail_.data(), count, path.fused, work.fused);
    }
    if (!phrases_) return;
    if (path.bonus.empty()) {
      path.bonus.assign(model.shape().vocabulary, 0);
      phrases_->add_row(path.place, false, path.bonus.data());
    }
    moved_.push_back(moved(model, logits, model.fusion() ? path.fused.data() : nullptr, path.bonus));
  }

  // The path leaves the frame by a blank of this log-probability; one with the same labels takes it in.
  void leave(const Path& path, double log_probability) {
    const double score = path.score + log_probability, likeliest = path.likeliest + log_probability;
    for (Path& other : left_.all()) {
      if (!steps_.same_labels(other.last, path.last)) continue;
      other.score = add_logs(other.score, score);
      if (likeliest < other.likeliest) return;
      other.likeliest = likeliest;
      other.last = path.last;
      return;
    }
    Path& added = left_.add(path);
    added.score = score;
    added.likeliest = likeliest;
  }

  // The score of the last path of a full beam. A path that only loses probability could, below it, at most be merged
  // into a better one; one that gains by fusion is given up all the same.
  double floor() {
    if (left_.all().size() < beam_) return -kInfinity;
    scores_.clear();
    for (const Path& path : left_.all()) scores_.push_back(path.score);
    const auto last = scores_.begin() + static_cast<std::ptrdiff_t>(beam_ - 1);
    std::ranges::nth_element(scores_, last, std::greater());
    return *last;
  }

  // The paths inside become the best ones with one more label, of those above a score.
  void extend(const float* logits, const double* log_sums, std::size_t vocabulary, double above) {
    extensions_.clear();
    const std::span<Path> parents = inside_.all();
    for (std::size_t p = 0; p < parents.size(); ++p) {
      for (std::size_t label = kBlank + 1; label < vocabulary; ++label) {
        double added = logits[p * vocabulary + label] - log_sums[p];
        if (!parents[p].fused.empty()) added += parents[p].fused[label];
        if (phrases_) added += parents[p].bonus[label] - moved_[p];
        const Extension one{parents[p].score + added, p, static_cast<std::int32_t>(label), added};
        if (!(one.total > above)) continue;
        if (extensions_.size() < beam_) {
          extensions_.push_back(one);
          std::ranges::push_heap(extensions_, std::less());
        } else if (one < extensions_.front()) {  // the worst one of them
          std::ranges::pop_heap(extensions_, std::less());
          extensions_.back() = one;
          std::ranges::push_heap(extensions_, std::less());
        }
      }
    }
    std::ranges::sort_heap(extensions_, std::less());
    extended_.clear();
    for (const Extension& one : extensions_) {
      Path& path = extended_.add(parents[one.parent]);
      path.score += one.added;
      path.likeliest += one.added;
      append(path, one.label, frame_);
    }
    inside_.swap(extended_);
  }

  // The frame is over.
  void keep_best() {
    const std::span<const Path> left = std::as_const(left_).all();
    order_.resize(left.size());
    std::iota(order_.begin(), order_.end(), std::size_t{0});
    std::ranges::stable_sort(order_, std::greater(), [&](std::size_t i) { return left[i].score; });
    paths_.clear();
    for (std::size_t k = 0; k < std::min(beam_, order_.size()); ++k) paths_.add(left[order_[k]]);
    sweep(paths_.all());
    ++frame_;
  }

  std::size_t beam_;
  std::int32_t frame_ = 0;
  Paths paths_, inside_, left_, extended_;
  std::vector<Extension> extensions_;
  std::vector<double> moved_, scores_;
  std::vector<std::size_t> order_;
  std::vector<std::int32_t> tail_;
};

}  // namespace

void Search::append(Path& path, std::int32_t label, std::int32_t frame) {
  path.last = steps_.add(path.last, label, frame);
  path.fused.clear();
  path.bonus.clear();
  double added = 0;
  if (phrases_) path.place = phrases_->follow(path.place, label, &added);
}

void Search::sweep(std::span<Path> kept) {
  if (!steps_.sweep_is_due()) return;
  roots_.assign(1, &told_);
  for (Path& path : kept) roots_.push_back(&path.last);
  steps_.sweep(roots_);
}

Emitted Search::emitted(const Path& path) const {
  Emitted all;
  steps_.write(path.last, Steps::kNone, all.labels, all.frames);
  return all;
}

std::size_t Search::news(Emitted& told, double& score) {
  const auto [path, its] = ranked()[0];
  const std::uint32_t from = steps_.shared(told_, path->last);
  steps_.write(path->last, from, told.labels, told.frames);
  told_ = path->last;
  score = its;
  return steps_[from].length;
}

double Search::moved(const Model& model, const float* logits, const float* fused, const std::vector<float>& bonus) {
  before_.assign(logits + kBlank + 1, logits + bonus.size());
  if (fused)
    for (std::size_t n = 0; n < before_.size(); ++n) before_[n] += fused[n + kBlank + 1];
  after_ = before_;
  for (std::size_t n = 0; n < after_.size(); ++n) after_[n] += bonus[n + kBlank + 1];
  return model.log_sum_exp(after_.data(), after_.size()) - model.log_sum_exp(before_.data(), before_.size());
}

std::unique_ptr<Search> Search::make(const Model& model, std::size_t beam, std::shared_ptr<const Phrases> phrases,
                                     std::shared_ptr<const Context> context, Workspace& work) {
  PredictorState start = model.start_predictor(work);
  if (context) model.biasing()->attend_label(*context, start.predicted.data(), 1, work);
  std::unique_ptr<Search> made;
  if (beam == 1) {
    made = std::make_unique<Greedy>(std::move(start), std::move(phrases));
  } else {
    made = std::make_unique<Beam>(std::move(start), beam, std::move(phrases));
  }
  made->context_ = std::move(context);
  return made;
}

void Search::attend(const Model& model, Workspace& work) {
  const std::span<Path> paths = inside();
  if (!context_ || !model.biasing()->label_queries() || paths.empty()) return;
  const std::size_t width = model.shape().joiner;
  if (work.asking.size() < paths.size() * width) work.asking.resize(paths.size() * width);
  for (std::size_t n = 0; n < paths.size(); ++n)
    std::copy_n(paths[n].state.predicted.data(), width, work.asking.data() + n * width);
  model.biasing()->attend_label(*context_, work.asking.data(), paths.size(), work);
  for (std::size_t n = 0; n < paths.size(); ++n)
    std::copy_n(work.asking.data() + n * width, width, paths[n].state.predicted.data());
}

std::vector<std::pair<const Path*, double>> Search::ranked() const {
  std::vector<std::pair<const Path*, double>> paths;
  for (const Path& path : best())
    paths.emplace_back(&path, path.score + (phrases_ ? phrases_->closing(path.place) : 0));
  if (phrases_) std::ranges::stable_sort(paths, std::greater(), &std::pair<const Path*, double>::second);
  return paths;
}

std::size_t Search::state_bytes() const {
  std::size_t bytes = 0;
  for (const Path& path : best()) bytes += path.state.bytes() + (path.fused.size() + path.bonus.size()) * sizeof(float);
  return bytes;
}

void Search::accept(const Model& model, std::span<Search* const> searches, const float* encoded,
                    Workspace& work) {
  const std::size_t width = model.shape().joiner, vocabulary = model.shape().vocabulary;
  work.joins.clear();
  for (Search* search : searches) search->begin();
  for (int spent = 0; spent <= kMaxLabels; ++spent) {
    work.states.clear();
    work.frames.clear();
    for (std::size_t n = 0; n < searches.size(); ++n) {
      for (Path& path : searches[n]->inside()) {
        work.states.push_back(&path.state);
        work.frames.push_back(encoded + n * width);
      }
    }
    if (work.states.empty()) return;
    model.join(work.states, work.frames.data(), work);
    const float* logits = work.logits.data();
    const double* log_sums = work.log_sums.data();
    work.states.clear();
    work.next.clear();
    for (Search* search : searches) {
      const std::size_t paths = search->inside().size();
      if (paths > 0) search->take(model, spent, logits, log_sums, work);
      logits += paths * vocabulary;
      log_sums += paths;
      for (Path& path : search->inside()) {
        work.states.push_back(&path.state);
        work.next.push_back(search->steps_[path.last].label);
      }
    }
    if (!work.states.empty()) model.advance(work.states, work.next.data(), work);
    for (Search* search : searches) search->attend(model, work);
  }
}

}  // namespace edgespeech
