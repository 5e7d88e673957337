// A packed model on the features of one utterance: `run_model MODEL FEATURES BEAM` prints the labels of the best
// hypothesis, then its score as a hexadecimal float. FEATURES: float32 of this machine, frames x features.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iterator>
#include <memory>
#include <vector>

#include "stream.hpp"

using namespace edgespeech;

int main(int argc, char** argv) try {
  if (argc != 4) {
    std::fprintf(stderr, "usage: run_model MODEL FEATURES BEAM\n");
    return 2;
  }
  const auto file = std::make_shared<const EdgeFile>(argv[1]);
  const auto model = std::make_shared<const Model>(file, argv[1], chosen_isa());
  std::ifstream from(argv[2], std::ios::binary);
  const std::vector<char> bytes(std::istreambuf_iterator<char>(from), {});
  std::vector<float> features(bytes.size() / sizeof(float));
  std::copy_n(bytes.data(), features.size() * sizeof(float), reinterpret_cast<char*>(features.data()));

  Stream stream(model, std::strtoul(argv[3], nullptr, 10));
  Stream* const one = &stream;
  Stream::accept({&one, 1}, features.data(), features.size() / model->shape().features);
  const Path& best = stream.search().best().front();
  for (const std::int32_t label : stream.search().emitted(best).labels) std::printf("%d ", label);
  std::printf("%a\n", best.score);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "run_model: %s\n", error.what());
  return 1;
}
