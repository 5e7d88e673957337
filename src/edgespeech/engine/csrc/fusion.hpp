// What a beam search adds to the transducer's scores of the next label, as edgespeech.lm.fusion and .ngram do it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "edge_file.hpp"
#include "memo.hpp"

namespace edgespeech {

// A back-off n-gram model of labels: a trie whose nodes lie in breadth-first order, the children of each together.
class NGram {
 public:
  // table: bytes, 4 x nodes: label and number of children without a sign, log-probability and back-off of each node.
  // Throws std::runtime_error, in words that begin with `label`, where it is no such trie.
  NGram(const Tensor& table, std::uint32_t vocabulary, const std::string& label);

  std::size_t order() const { return order_; }
  // The log-probabilities of the labels that may come after a history: vocabulary values.
  void log_probs(const std::int32_t* history, std::size_t length, double* to) const;

 private:
  // The node of a sequence that has children; 0, which is none of a sequence's, where there is none.
  std::size_t find(const std::int32_t* sequence, std::size_t length) const;

  std::uint32_t vocabulary_;
  std::size_t order_ = 0;
  std::vector<std::uint32_t> first_;  // child of each node, and one more
  std::vector<std::int32_t> labels_;
  std::vector<float> log_probs_, backoffs_;
};

class Fusion {
 public:
  static constexpr const char *kWeights = "fusion.weights", *kHigh = "fusion.high", *kLow = "fusion.low";
  // Whether a tensor of this name is one of those: looked up, and multiplied with nothing.
  static bool owns(std::string_view name) { return name == kWeights || name == kHigh || name == kLow; }

  // weights: of the language model's log-probability, of the low-order model's, which is taken away, and what is
  // added for every label.
  Fusion(const float* weights, const Tensor& high, const Tensor& low, std::uint32_t vocabulary,
         const std::string& label);

  // As many last labels decide.
  std::size_t context() const { return context_; }
  // Scores to add to each possible next label: vocabulary values, 0 for the blank.
  // last: the last labels of the hypothesis, context() of them, or all where there are fewer.
  // memo: of this model's scores alone.
  void scores(const std::int32_t* last, std::size_t some, std::vector<float>& to, Memo& memo) const;

 private:
  void compute(const std::int32_t* history, std::size_t length, float* to) const;

  float high_weight_, low_weight_, label_weight_;
  std::uint32_t vocabulary_;
  NGram high_, low_;
  std::size_t context_;
};

}  // namespace edgespeech
