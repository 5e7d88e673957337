// Log-mel features of audio that arrives in pieces; edgespeech.audio.features says which, and computes them by
// kaldi-native-fbank.
#pragma once

#include <cstddef>
#include <vector>

#include "floats.hpp"

namespace edgespeech {

// What the kernel looks up: made once.
const LogMelTables& log_mel_tables();

// The features of one stream of samples; they do not depend on the pieces, nor on the ISA.
class LogMel {
 public:
  // Throws std::invalid_argument when this CPU lacks the ISA.
  explicit LogMel(Isa isa) : floats_(&float_kernels(isa)) {}

  // Takes samples and adds the frames that they complete to `frames`, LogMelTables::kBands each. Throws
  // std::invalid_argument where a sample is not finite, and takes none then.
  void accept(const float* samples, std::size_t count, std::vector<float>& frames);
  // The audio is over: adds the frames whose middle it reaches, mirrored at its end.
  void finish(std::vector<float>& frames);

 private:
  // Where a frame starts, from the first of the waiting samples on: before it for the first frame alone, which is
  // mirrored at the beginning of the audio.
  static constexpr std::ptrdiff_t kFirst =
      static_cast<std::ptrdiff_t>(LogMelTables::kShift / 2) - static_cast<std::ptrdiff_t>(LogMelTables::kFrame / 2);

  // Adds `count` frames whose samples are all there, from these on.
  void add(const float* from, std::ptrdiff_t count, std::vector<float>& frames) const;
  // Adds the frame at start_, which reaches beyond the samples.
  void add_mirrored(std::vector<float>& frames) const;

  const FloatKernels* floats_;
  std::vector<float> waiting_;  // samples that frames to come need
  std::ptrdiff_t start_ = kFirst;
};

}  // namespace edgespeech
