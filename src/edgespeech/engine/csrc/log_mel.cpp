#include "log_mel.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <stdexcept>

namespace edgespeech {
namespace {

constexpr auto kFrame = static_cast<std::ptrdiff_t>(LogMelTables::kFrame);
constexpr auto kShift = static_cast<std::ptrdiff_t>(LogMelTables::kShift);
constexpr std::ptrdiff_t kAtOnce = 8;
constexpr double kTurn = 2 * std::numbers::pi;
constexpr float kRate = 16000, kLowHz = 20, kHighHz = 7600;

// In floats: a band's edges, and with them what it weighs, are rounded as Kaldi rounds them.
float mel(float hz) { return 1127.0f * std::log(1.0f + hz / 700.0f); }

// exp(-2 pi i turns)
void root(double turns, float& re, float& im) {
  re = static_cast<float>(std::cos(kTurn * turns));
  im = static_cast<float>(-std::sin(kTurn * turns));
}

void make_roots(LogMelTables& tables) {
  constexpr std::size_t kHalf = LogMelTables::kHalf;
  for (std::size_t k = 0; k < kHalf; ++k) root(static_cast<double>(k) / 256, tables.root_re[k], tables.root_im[k]);
  for (std::size_t j = 1; j < 4; ++j) {
    for (std::size_t k = 0; k < 16; ++k) {
      tables.re_64[(j - 1) * 16 + k] = tables.root_re[4 * j * k];
      tables.im_64[(j - 1) * 16 + k] = tables.root_im[4 * j * k];
    }
    for (std::size_t k = 0; k < 64; ++k) {
      tables.re_256[(j - 1) * 64 + k] = tables.root_re[j * k];
      tables.im_256[(j - 1) * 64 + k] = tables.root_im[j * k];
    }
  }
  for (std::size_t k = 0; k <= kHalf / 2; ++k)
    root(static_cast<double>(k) / 512 + 0.25, tables.re_512[k], tables.im_512[k]);
  for (std::size_t k = 1; k < kHalf / 2; ++k) {
    tables.re_512[kHalf - k] = tables.re_512[k];
    tables.im_512[kHalf - k] = -tables.im_512[k];
  }
}

// Triangles on the mel scale; no two bands but neighbours overlap.
void make_bands(LogMelTables& tables) {
  const float low = mel(kLowHz), step = (mel(kHighHz) - low) / static_cast<float>(LogMelTables::kBands + 1);
  const auto edge = [&](std::size_t number) { return low + static_cast<float>(number) * step; };
  float* weight = tables.weights;
  for (std::size_t band = 0; band < LogMelTables::kBands; ++band) {
    const float left = edge(band), centre = edge(band + 1), right = edge(band + 2);
    tables.count[band] = 0;
    for (std::size_t k = 0; k < LogMelTables::kHalf; ++k) {
      const float at = mel(static_cast<float>(k) * kRate / static_cast<float>(2 * LogMelTables::kHalf));
      if (at <= left || at >= right) continue;
      if (tables.count[band]++ == 0) tables.first[band] = static_cast<std::uint16_t>(k);
      *weight++ = at <= centre ? (at - left) / (centre - left) : (right - at) / (right - centre);
    }
  }
}

LogMelTables make_tables() {
  LogMelTables tables;
  for (std::size_t i = 0; i < LogMelTables::kFrame; ++i) {  // Povey's window
    const double turn = kTurn * static_cast<double>(i) / static_cast<double>(LogMelTables::kFrame - 1);
    tables.window[i] = static_cast<float>(std::pow(0.5 - 0.5 * std::cos(turn), 0.85));
  }
  make_roots(tables);
  make_bands(tables);
  return tables;
}

// The means of 1 to kAtOnce frames. In floats, one sample after the other, as Kaldi adds up; several frames at once,
// since every addition waits for the one before it.
void mean_of_each(const float* frames, std::ptrdiff_t count, float* means) {
  const float* from[kAtOnce];
  for (std::ptrdiff_t f = 0; f < kAtOnce; ++f) from[f] = frames + std::min(f, count - 1) * kShift;
  float sums[kAtOnce] = {};
  for (std::ptrdiff_t i = 0; i < kFrame; ++i)
    for (std::ptrdiff_t f = 0; f < kAtOnce; ++f) sums[f] += from[f][i];
  for (std::ptrdiff_t f = 0; f < count; ++f) means[f] = sums[f] / static_cast<float>(kFrame);
}

}  // namespace

const LogMelTables& log_mel_tables() {
  static const LogMelTables tables = make_tables();
  return tables;
}

void LogMel::accept(const float* samples, std::size_t count, std::vector<float>& frames) {
  if (!std::all_of(samples, samples + count, [](float value) { return std::isfinite(value); }))
    throw std::invalid_argument("features: samples hold a value that is not finite, expected finite values");
  waiting_.insert(waiting_.end(), samples, samples + count);
  const auto ready = [&] { return (std::ssize(waiting_) - start_ - kFrame + kShift) / kShift; };
  for (; start_ < 0 && ready() > 0; start_ += kShift) add_mirrored(frames);
  for (; ready() > 0; start_ += std::min(kAtOnce, ready()) * kShift)
    add(waiting_.data() + start_, std::min(kAtOnce, ready()), frames);
  if (start_ <= 0) return;
  waiting_.erase(waiting_.begin(), waiting_.begin() + start_);
  start_ = 0;
}

void LogMel::finish(std::vector<float>& frames) {
  for (; start_ + kFrame / 2 <= std::ssize(waiting_); start_ += kShift) add_mirrored(frames);
}

void LogMel::add(const float* from, std::ptrdiff_t count, std::vector<float>& frames) const {
  float means[kAtOnce];
  mean_of_each(from, count, means);
  const std::size_t before = frames.size();
  frames.resize(before + static_cast<std::size_t>(count) * LogMelTables::kBands);
  float* to = frames.data() + before;
  for (std::ptrdiff_t f = 0; f < count; ++f, to += LogMelTables::kBands)
    floats_->log_mel(log_mel_tables(), from + f * kShift, means[f], to);
}

void LogMel::add_mirrored(std::vector<float>& frames) const {
  const std::ptrdiff_t count = std::ssize(waiting_);
  float frame[kFrame];
  for (std::ptrdiff_t i = 0; i < kFrame; ++i) {
    std::ptrdiff_t at = start_ + i;
    while (at < 0 || at >= count) at = at < 0 ? -1 - at : 2 * count - 1 - at;
    frame[i] = waiting_[static_cast<std::size_t>(at)];
  }
  add(frame, 1, frames);
}

}  // namespace edgespeech
