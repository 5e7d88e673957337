// Phrases that are likely to be spoken, as an automaton that a search follows label by label; edgespeech.biasing.phrases
// is the face of it, and says what it computes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace edgespeech {

// The word pieces of a model as a trie, so that the labels which may follow a place are found together.
class PieceTrie {
 public:
  struct Node {
    std::uint32_t low, high;  // its labels in `order`; those that end here come first
    std::uint32_t ends;       // how many these are
    std::uint32_t first, last;  // its children
    unsigned char sign;
  };

  // pieces: by label; a space stands for the start of a word. That of the blank has no signs.
  explicit PieceTrie(std::vector<std::string> pieces);

  const std::vector<std::string>& pieces() const { return pieces_; }
  const std::vector<std::uint32_t>& order() const { return order_; }
  const Node& node(std::uint32_t at) const { return nodes_[at]; }
  const Node& root() const { return nodes_[0]; }
  bool spells(std::string_view text) const;

 private:
  std::vector<std::string> pieces_;
  std::vector<std::uint32_t> order_;
  std::vector<Node> nodes_;
  bool known_[256] = {};
};

class Phrases {
 public:
  static constexpr std::uint32_t kStart = 0;  // where no phrase is in progress

  // texts: each begins with a space, has one between words, and none at its end. bonuses: of a letter of each. head:
  // how many first letters count only once the phrase is complete. Those that the pieces cannot spell are left out.
  Phrases(std::vector<std::string> pieces, const std::vector<std::string_view>& texts, const float* bonuses,
          std::size_t head);

  std::size_t nodes() const { return nodes_.size(); }
  std::size_t phrases() const { return phrases_; }
  std::size_t vocabulary() const { return trie_.pieces().size(); }
  std::size_t bytes() const;
  const std::vector<std::size_t>& left_out() const { return left_out_; }

  // The place before the first label, which begins a word whatever it is.
  std::uint32_t start() const { return phrases_ > 0 ? 1 : kStart; }
  // The place after a label, and what the label adds to the score.
  std::uint32_t follow(std::uint32_t node, std::int32_t label, double* added) const;
  // The same of signs.
  std::uint32_t read(std::uint32_t node, std::string_view signs, double* added) const;
  // What each next label adds, 0 for the blank: vocabulary values are added to `to`. sunk: without what is given back of
  // the phrase in progress, for a search that cannot go back.
  void add_row(std::uint32_t node, bool sunk, float* to) const;
  // What is added where a hypothesis ends: the bonus of an unfinished phrase is given back.
  double closing(std::uint32_t node) const { return closing_[node]; }

 private:
  struct Node {
    std::uint32_t first;  // child; they lie together, up to that of the next node
    std::uint32_t link;   // where the search goes on where no child fits
    float kept;           // of the bonus when it goes there
    float pending;        // bonus so far
    float bonus;          // of the phrase that ends here; below 0: none does
  };
  class Row;

  static constexpr std::uint32_t kNone = 0xFFFFFFFF;
  std::uint32_t child(std::uint32_t node, unsigned char sign) const;
  std::uint32_t step(std::uint32_t node, unsigned char sign, double* kept) const;
  void build(std::vector<std::pair<std::string_view, float>>& texts, std::size_t head);
  void link();

  PieceTrie trie_;
  std::size_t phrases_ = 0;
  std::vector<Node> nodes_;  // breadth first
  std::vector<unsigned char> signs_;
  std::vector<float> closing_;
  std::vector<float> start_row_;  // of the start, in the order of the trie
  std::vector<std::size_t> left_out_;
};

}  // namespace edgespeech
