#include "phrases.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

namespace edgespeech {
namespace {

constexpr unsigned char kSpace = ' ';
constexpr float kStep = 1024;  // bonuses are multiples of 1 / kStep, so that what is given back is exactly what was given

bool begins_letter(unsigned char sign) { return sign != kSpace && (sign & 0xC0) != 0x80; }

float rounded(float value) { return std::round(value * kStep) / kStep; }

}  // namespace

PieceTrie::PieceTrie(std::vector<std::string> pieces) : pieces_(std::move(pieces)), order_(pieces_.size()) {
  std::iota(order_.begin(), order_.end(), 0u);
  std::ranges::stable_sort(order_, {}, [&](std::uint32_t label) -> const std::string& { return pieces_[label]; });
  for (const std::string& piece : pieces_)
    for (const char sign : piece) known_[static_cast<unsigned char>(sign)] = true;
  nodes_.push_back({0, static_cast<std::uint32_t>(order_.size()), 0, 0, 0, 0});
  std::vector<std::uint32_t> depths{0};
  for (std::size_t at = 0; at < nodes_.size(); ++at) {
    const std::uint32_t depth = depths[at], high = nodes_[at].high;
    std::uint32_t low = nodes_[at].low;
    while (low < high && pieces_[order_[low]].size() == depth) ++low;
    nodes_[at].ends = low - nodes_[at].low;
    nodes_[at].first = static_cast<std::uint32_t>(nodes_.size());
    for (std::uint32_t next; low < high; low = next) {
      const char sign = pieces_[order_[low]][depth];
      for (next = low + 1; next < high && pieces_[order_[next]][depth] == sign;) ++next;
      nodes_.push_back({low, next, 0, 0, 0, static_cast<unsigned char>(sign)});
      depths.push_back(depth + 1);
    }
    nodes_[at].last = static_cast<std::uint32_t>(nodes_.size());
  }
}

bool PieceTrie::spells(std::string_view text) const {
  return std::ranges::all_of(text, [&](char sign) { return known_[static_cast<unsigned char>(sign)]; });
}

Phrases::Phrases(std::vector<std::string> pieces, const std::vector<std::string_view>& texts, const float* bonuses,
                 std::size_t head)
    : trie_(std::move(pieces)) {
  std::vector<std::pair<std::string_view, float>> spelled;
  spelled.reserve(texts.size());
  for (std::size_t n = 0; n < texts.size(); ++n) {
    if (trie_.spells(texts[n])) {
      spelled.emplace_back(texts[n], bonuses[n]);
    } else {
      left_out_.push_back(n);
    }
  }
  // The greatest bonus of equal ones stays.
  std::ranges::sort(spelled, [](const auto& a, const auto& b) {
    const int order = a.first.compare(b.first);
    return order != 0 ? order < 0 : a.second > b.second;
  });
  const auto equal = [](const auto& a, const auto& b) { return a.first == b.first; };
  spelled.erase(std::unique(spelled.begin(), spelled.end(), equal), spelled.end());
  phrases_ = spelled.size();
  build(spelled, head);
  link();
  std::vector<float> row(vocabulary(), 0);
  add_row(kStart, false, row.data());
  for (const std::uint32_t label : trie_.order()) start_row_.push_back(row[label]);
}

void Phrases::build(std::vector<std::pair<std::string_view, float>>& texts, std::size_t head) {
  struct Range {
    std::size_t low, high, letters;
  };
  nodes_.push_back({0, kStart, 0, 0, -1});
  signs_.push_back(0);
  std::vector<Range> level{{0, texts.size(), 0}}, below;
  std::size_t first = 0;
  for (std::size_t depth = 0; !level.empty(); ++depth) {
    for (std::size_t k = 0; k < level.size(); ++k) {
      auto [low, high, letters] = level[k];
      Node& node = nodes_[first + k];
      node.first = static_cast<std::uint32_t>(nodes_.size());
      if (low < high && texts[low].first.size() == depth) {
        if (depth > 0) {
          node.bonus = rounded(static_cast<float>(letters) * texts[low].second);
          node.pending = std::max(node.pending, node.bonus);
        }
        ++low;
      }
      for (std::size_t next; low < high; low = next) {
        const auto sign = static_cast<unsigned char>(texts[low].first[depth]);
        float most = 0;
        for (next = low; next < high && static_cast<unsigned char>(texts[next].first[depth]) == sign; ++next)
          most = std::max(most, texts[next].second);
        const std::size_t more = letters + (begins_letter(sign) ? 1 : 0);
        nodes_.push_back({0, kStart, 0, rounded(static_cast<float>(more - std::min(more, head)) * most), -1});
        signs_.push_back(sign);
        below.push_back({low, next, more});
      }
    }
    first += level.size();
    level.swap(below);
    below.clear();
  }
}

// Breadth first, so that the links of a place's beginnings are known before its own.
void Phrases::link() {
  closing_.assign(nodes_.size(), 0);
  const auto end_of = [&](std::size_t at) {
    return at + 1 < nodes_.size() ? nodes_[at + 1].first : static_cast<std::uint32_t>(nodes_.size());
  };
  for (std::uint32_t at = 0; at < nodes_.size(); ++at) {
    for (std::uint32_t below = nodes_[at].first; below < end_of(at); ++below) {
      if (at == kStart) continue;
      double kept = 0;
      std::uint32_t to = kStart;
      if (signs_[below] == kSpace && nodes_[at].bonus >= 0) {
        kept = nodes_[at].bonus;
        to = step(kStart, kSpace, &kept);
      } else {
        kept = nodes_[at].kept;
        to = step(nodes_[at].link, signs_[below], &kept);
      }
      nodes_[below].link = to;
      nodes_[below].kept = static_cast<float>(kept);
    }
    const Node& node = nodes_[at];
    if (node.bonus >= 0) {
      closing_[at] = node.bonus - node.pending;
    } else if (at != kStart) {
      closing_[at] = node.kept - node.pending + nodes_[node.link].pending + closing_[node.link];
    }
  }
}

std::uint32_t Phrases::child(std::uint32_t node, unsigned char sign) const {
  const std::size_t end = node + 1 < nodes_.size() ? nodes_[node + 1].first : nodes_.size();
  for (std::size_t at = nodes_[node].first; at < end; ++at) {
    if (signs_[at] == sign) return static_cast<std::uint32_t>(at);
    if (signs_[at] > sign) break;
  }
  return kNone;
}

// The place after a sign. Adds to `kept` the bonuses of phrases that are thereby over.
std::uint32_t Phrases::step(std::uint32_t node, unsigned char sign, double* kept) const {
  for (;;) {
    if (const std::uint32_t next = child(node, sign); next != kNone) return next;
    if (node == kStart) return kStart;
    if (sign == kSpace && nodes_[node].bonus >= 0) {
      *kept += nodes_[node].bonus;
      node = kStart;
    } else {
      *kept += nodes_[node].kept;
      node = nodes_[node].link;
    }
  }
}

std::uint32_t Phrases::follow(std::uint32_t node, std::int32_t label, double* added) const {
  return read(node, trie_.pieces()[static_cast<std::size_t>(label)], added);
}

std::uint32_t Phrases::read(std::uint32_t node, std::string_view signs, double* added) const {
  const std::uint32_t before = node;
  double kept = 0;
  for (const char sign : signs)
    node = step(node, static_cast<unsigned char>(sign), &kept);
  *added = kept + nodes_[node].pending - nodes_[before].pending;
  return node;
}

// What labels add, in the order of the trie: first as if no phrase went on, then those with which one does.
class Phrases::Row {
 public:
  Row(const Phrases& phrases, float* to) : all_(phrases), trie_(phrases.trie_), to_(to) {}

  // The labels below a node of the trie, of which the place `at` has followed the signs up to there.
  void fill(std::uint32_t at, std::uint32_t where, double base) {
    const PieceTrie::Node& branch = trie_.node(where);
    if (at == kStart || is_start_of_words(at, where)) {
      start(where, base);
      return;
    }
    const Node& place = all_.nodes_[at];
    const double over = base + place.kept + all_.nodes_[place.link].pending - place.pending;
    fill(place.link, where, over);
    const std::uint32_t space = spaces_below(where);
    if (place.bonus >= 0 && space != kNone) from_start(space, base + place.bonus - place.pending);
    for (std::uint32_t next = branch.first; next < branch.last; ++next)
      if (const std::uint32_t to = all_.child(at, trie_.node(next).sign); to != kNone)
        matched(to, next, base + all_.nodes_[to].pending - place.pending);
  }

  // Adds to the labels that go on with the phrase in progress.
  void add_going_on(std::uint32_t at, std::uint32_t where, float more) {
    const PieceTrie::Node& branch = trie_.node(where);
    for (std::uint32_t next = branch.first; next < branch.last; ++next) {
      const PieceTrie::Node& below = trie_.node(next);
      const std::uint32_t to = all_.child(at, below.sign);
      if (to == kNone) continue;
      for (std::uint32_t n = below.low; n < below.low + below.ends; ++n) to_[n] += more;
      add_going_on(to, next, more);
    }
  }

 private:
  // Whether this is the place after the space of a first word, of which the row of the start tells all.
  bool is_start_of_words(std::uint32_t at, std::uint32_t where) const {
    return !all_.start_row_.empty() && at == 1 && where == spaces_below(0);
  }

  // The branch of labels that go on with a space.
  std::uint32_t spaces_below(std::uint32_t where) const {
    const PieceTrie::Node& branch = trie_.node(where);
    for (std::uint32_t next = branch.first; next < branch.last && trie_.node(next).sign <= kSpace; ++next)
      if (trie_.node(next).sign == kSpace) return next;
    return kNone;
  }

  void start(std::uint32_t where, double base) {
    const PieceTrie::Node& branch = trie_.node(where);
    if (all_.start_row_.empty() || (where != 0 && where != spaces_below(0))) {
      for (std::uint32_t next = branch.first; next < branch.last; ++next) from_start(next, base);
      return;
    }
    for (std::uint32_t n = branch.low + branch.ends; n < branch.high; ++n)
      to_[n] = static_cast<float>(base + all_.start_row_[n]);
  }

  void matched(std::uint32_t at, std::uint32_t where, double base) {
    const PieceTrie::Node& branch = trie_.node(where);
    std::fill_n(to_ + branch.low, branch.ends, static_cast<float>(base));
    if (branch.first < branch.last) fill(at, where, base);
  }

  // The labels at and below a branch, as from the start of the automaton.
  void from_start(std::uint32_t where, double base) {
    const PieceTrie::Node& branch = trie_.node(where);
    if (const std::uint32_t to = all_.child(kStart, branch.sign); to != kNone) {
      matched(to, where, base);
    } else {
      std::fill(to_ + branch.low, to_ + branch.high, static_cast<float>(base));
    }
  }

  const Phrases& all_;
  const PieceTrie& trie_;
  float* to_;
};

void Phrases::add_row(std::uint32_t node, bool sunk, float* to) const {
  std::vector<float> row(vocabulary(), 0);
  Row labels(*this, row.data());
  labels.fill(node, 0, sunk ? -closing_[node] : 0);
  if (sunk) labels.add_going_on(node, 0, closing_[node]);
  const std::vector<std::uint32_t>& order = trie_.order();
  for (std::size_t n = trie_.root().ends; n < row.size(); ++n) to[order[n]] += row[n];
}

std::size_t Phrases::bytes() const {
  return nodes_.size() * (sizeof(Node) + sizeof(unsigned char) + sizeof(float));
}

}  // namespace edgespeech
