#include "fusion.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace edgespeech {
namespace {

constexpr std::int32_t kStart = 0;  // the label before the first one of a sentence
constexpr std::int32_t kNothing = -2;  // before that
constexpr std::uint32_t kRows = 4;

[[noreturn]] void fail(const std::string& label, const std::string& what, const std::string& expected) {
  throw std::runtime_error(label + ": " + what + ", expected " + expected);
}

// The values of a table of bytes, row after row: weights in units of their rows' scales, 0 where none is stored.
std::vector<int> unpack(const PackedMatrix& table) {
  std::vector<int> values;
  values.reserve(std::size_t{table.rows} * table.cols);
  for (std::uint32_t row = 0; row < table.rows; ++row) {
    const std::uint8_t* code = table.values + table.row_start[row];
    const std::uint64_t* masks = table.sparse ? table.masks + std::size_t{row} * table.words() : nullptr;
    for (std::uint32_t col = 0; col < table.cols; ++col) {
      const bool stored = masks == nullptr || (masks[col / 64] >> (col % 64) & 1) != 0;
      values.push_back(stored ? *code++ - 128 : 0);
    }
  }
  return values;
}

}  // namespace

NGram::NGram(const Tensor& table, std::uint32_t vocabulary, const std::string& label) : vocabulary_(vocabulary) {
  const std::string where = label + ": tensor " + table.name;
  const PackedMatrix& packed = table.packed;
  if (table.encoding != Encoding::Codes || packed.bits != 8 || packed.group != 0 || packed.codebook != nullptr)
    fail(where, "it is stored otherwise", "uniform codes of 8 bits with a scale a row");
  if (table.rows != kRows) fail(where, "rows is " + std::to_string(table.rows), std::to_string(kRows));
  const std::size_t nodes = table.cols;
  const std::vector<int> values = unpack(packed);
  const auto at = [&](std::size_t row, std::size_t node) {
    return packed.scales[row] * static_cast<float>(values[row * nodes + node]);
  };
  // Labels and numbers of children are bytes without a sign.
  const auto whole = [&](std::size_t row, std::size_t node) {
    return static_cast<std::uint32_t>(static_cast<std::uint8_t>(values[row * nodes + node]));
  };
  first_.push_back(1);
  for (std::size_t node = 0; node < nodes; ++node) {
    const std::size_t next = std::size_t{first_.back()} + whole(1, node);
    // Breadth-first: a node's parent comes before it, and the last node closes the trie.
    if (next > nodes || (node + 1 < nodes && next <= node + 1))
      fail(where, "the children of node " + std::to_string(node) + " end at " + std::to_string(next),
           "nodes in breadth-first order");
    first_.push_back(static_cast<std::uint32_t>(next));
    labels_.push_back(static_cast<std::int32_t>(whole(0, node)));
    log_probs_.push_back(at(2, node));
    backoffs_.push_back(at(3, node));
  }
  if (first_.back() != nodes)
    fail(where, "the children are " + std::to_string(first_.back() - 1), std::to_string(nodes - 1));
  for (std::size_t node = 0; node < nodes; ++node) {
    for (std::size_t child = first_[node]; child < first_[node + 1]; ++child) {
      if (static_cast<std::uint32_t>(labels_[child]) >= vocabulary)
        fail(where, "a label is " + std::to_string(labels_[child]), "less than " + std::to_string(vocabulary));
      if (child > first_[node] && labels_[child] <= labels_[child - 1])
        fail(where, "the labels below node " + std::to_string(node) + " do not grow", "growing ones");
    }
  }
  for (std::size_t start = 0, end = 1; first_[start] != first_[end]; ++order_) {
    const std::size_t below = first_[start];
    end = first_[end];
    start = below;
  }
}

std::size_t NGram::find(const std::int32_t* sequence, std::size_t length) const {
  std::size_t node = 0;
  for (std::size_t i = 0; i < length; ++i) {
    const auto begin = labels_.begin() + first_[node], end = labels_.begin() + first_[node + 1];
    const auto found = std::lower_bound(begin, end, sequence[i]);
    if (found == end || *found != sequence[i]) return 0;
    node = static_cast<std::size_t>(found - labels_.begin());
  }
  return first_[node] < first_[node + 1] ? node : 0;
}

void NGram::log_probs(const std::int32_t* history, std::size_t length, double* to) const {
  std::fill(to, to + vocabulary_, -std::log(static_cast<double>(vocabulary_ - 1)));
  for (std::size_t used = 0; used <= length && used < order_; ++used) {
    const std::size_t node = find(history + length - used, used);
    if (node == 0 && used > 0) continue;
    if (node != 0)
      for (std::size_t label = 0; label < vocabulary_; ++label) to[label] += backoffs_[node];
    for (std::size_t child = first_[node]; child < first_[node + 1]; ++child) to[labels_[child]] = log_probs_[child];
  }
}

Fusion::Fusion(const float* weights, const Tensor& high, const Tensor& low, std::uint32_t vocabulary,
               const std::string& label)
    : high_weight_(weights[0]),
      low_weight_(weights[1]),
      label_weight_(weights[2]),
      vocabulary_(vocabulary),
      high_(high, vocabulary, label),
      low_(low, vocabulary, label),
      context_(std::max({high_.order(), low_.order(), std::size_t{2}}) - 1) {
  for (int i = 0; i < 3; ++i)
    if (!std::isfinite(weights[i]))
      fail(label + ": tensor " + kWeights, "a value is not finite", "finite values");
}

void Fusion::scores(const std::int32_t* last, std::size_t some, std::vector<float>& to, Memo& memo) const {
  memo.shape(context_, vocabulary_);
  std::vector<std::int32_t> history(context_, kNothing);
  std::copy_n(last, some, history.data() + context_ - some);
  std::size_t length = some;
  if (some < context_) history[context_ - ++length] = kStart;
  const float* found = memo.find(history.data());
  if (found == nullptr) {
    float* computed = memo.put(history.data());
    compute(history.data() + context_ - length, length, computed);
    found = computed;
  }
  to.assign(found, found + vocabulary_);
}

void Fusion::compute(const std::int32_t* history, std::size_t length, float* to) const {
  std::vector<double> high(vocabulary_), low(vocabulary_);
  high_.log_probs(history, length, high.data());
  low_.log_probs(history, length, low.data());
  for (std::size_t label = 0; label < vocabulary_; ++label)
    to[label] = static_cast<float>(double{high_weight_} * high[label] - double{low_weight_} * low[label] +
                                   double{label_weight_});
  to[0] = 0;
}

}  // namespace edgespeech
