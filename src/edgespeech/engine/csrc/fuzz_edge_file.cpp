// Fuzz target: the loader on any bytes, then a product of every matrix with every kernel; and where the tensors are
// those of a model, two steps of it. All kernels agree.
// Built by fuzz/build.sh: with libFuzzer where clang is, else with the small driver at the end of this file.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

#include "edge_file.hpp"
#include "kernels.hpp"
#include "stream.hpp"

namespace {

using edgespeech::EdgeFile;

constexpr std::size_t kHeaderBytes = 64, kFileBytesAt = 16, kChecksumAt = 48;

struct Free {
  void operator()(std::byte* bytes) const { ::operator delete[](bytes, std::align_val_t{64}); }
};

void put(std::byte* at, std::uint64_t value) { std::memcpy(at, &value, sizeof(value)); }

[[noreturn]] void fail(const char* what, edgespeech::Isa isa) {
  std::fprintf(stderr, "the %s of scalar and %s differ\n", what, edgespeech::name(isa));
  std::abort();
}

void multiply(const edgespeech::PackedMatrix& matrix) {
  const std::size_t batch = 1 + matrix.rows % edgespeech::kMaxBatch;
  std::vector<std::int8_t> q(batch * matrix.cols);
  for (std::size_t i = 0; i < q.size(); ++i) q[i] = static_cast<std::int8_t>(i * 37 % 255 - 127);
  std::vector<std::int32_t> expected(batch * matrix.rows * matrix.groups()), found(expected.size());
  edgespeech::Scratch scratch;
  edgespeech::multiply(edgespeech::Isa::Scalar, matrix, q.data(), batch, expected.data(), scratch);
  for (const edgespeech::Isa isa : edgespeech::kIsas) {
    if (!edgespeech::available(isa)) continue;
    std::fill(found.begin(), found.end(), -1);
    edgespeech::multiply(isa, matrix, q.data(), batch, found.data(), scratch);
    if (found != expected) fail("products", isa);
  }
}

// Two steps of a batch of a greedy and a beam search, and where there are two branches also of one search by each; the
// labels and scores that are then best.
using Said = std::vector<std::pair<std::vector<std::int32_t>, double>>;

Said step(const std::shared_ptr<const EdgeFile>& file, edgespeech::Isa isa) {
  const auto model = std::make_shared<const edgespeech::Model>(file, "input", isa);
  Said said;
  try {
    edgespeech::Stream greedy(model, 1), beam(model, 3);
    edgespeech::Stream slow(model, 1), fast(model, 1);
    slow.choose(edgespeech::Choice::Slow);
    std::vector<edgespeech::Stream*> streams{&greedy, &beam, &slow};
    if (model->shape().decisions > 0) {
      fast.choose(edgespeech::Choice::Fast);
      streams.push_back(&fast);
    }
    const std::size_t frames = 2 * model->shape().stack + 1;
    std::vector<float> features(streams.size() * frames * model->shape().features);
    for (std::size_t i = 0; i < features.size(); ++i) features[i] = static_cast<float>(i * 37 % 101) / 50 - 1;
    edgespeech::Stream::accept(streams, features.data(), frames);
    for (const edgespeech::Stream* stream : streams)
      for (const edgespeech::Path& path : stream->search().best()) {
        said.emplace_back(stream->search().emitted(path).labels, path.score);
      }
  } catch (const std::invalid_argument&) {  // a value overflows, maybe before the first frame
  }
  return said;
}

// Ends the process when two kernels differ. Returns whether the loader took the file.
bool load_and_multiply(std::span<const std::byte> bytes) {
  try {
    const auto file = std::make_shared<const EdgeFile>(bytes, "input");
    for (const edgespeech::Tensor& tensor : file->tensors())
      if (tensor.encoding == edgespeech::Encoding::Codes) multiply(tensor.packed);
    try {
      const Said expected = step(file, edgespeech::Isa::Scalar);
      for (const edgespeech::Isa isa : edgespeech::kIsas)
        if (edgespeech::available(isa) && step(file, isa) != expected) fail("hypotheses", isa);
    } catch (const std::runtime_error&) {  // not a model
    }
    return true;
  } catch (const std::runtime_error&) {
    return false;
  }
}

// Loads the input as it is, then with the size and the checksum made right, so that the checks behind them
// are reached.
bool run_input(const std::uint8_t* data, std::size_t size) {
  const std::size_t whole = std::max((size + 63) / 64 * 64, kHeaderBytes);
  // Exactly as large as the file, so that the sanitizer sees any read beyond it.
  const std::unique_ptr<std::byte[], Free> bytes(new (std::align_val_t{64}) std::byte[whole]());
  if (size > 0) std::memcpy(bytes.get(), data, size);
  if (size == whole && load_and_multiply({bytes.get(), whole})) return true;
  put(bytes.get() + kFileBytesAt, whole);
  put(bytes.get() + kChecksumAt, edgespeech::edge_checksum({bytes.get(), whole}));
  return load_and_multiply({bytes.get(), whole});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  run_input(data, size);
  return 0;
}

#ifdef EDGESPEECH_FUZZ_DRIVER
// For compilers without libFuzzer: changes seeds at random, always in one order, for a stated time. It does
// not follow coverage; half of its changes are to fields of the header and the table instead.
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>

namespace {

using Input = std::vector<std::uint8_t>;
constexpr char kLastInput[] = "fuzz-last-input";

void change(Input& input, const std::vector<Input>& seeds, std::mt19937_64& random) {
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  if (input.empty()) input.resize(64);
  const std::size_t head = std::min<std::size_t>(input.size(), 64 + 128 * 8);
  switch (below(8)) {
    case 0: input[below(input.size())] ^= static_cast<std::uint8_t>(1 << below(8)); break;
    case 1: input[below(input.size())] = static_cast<std::uint8_t>(random()); break;
    case 2: input.resize(below(input.size() + 256)); break;
    case 3: {  // a piece of another seed, or of this one
      const Input& other = seeds[below(seeds.size())];
      const std::size_t bytes = std::min({1 + below(128), other.size(), input.size()});
      const std::uint8_t* piece = other.data() + below(other.size() - bytes + 1);
      std::memmove(input.data() + below(input.size() - bytes + 1), piece, bytes);
      break;
    }
    default: {  // a field: a telling value, or one near its own
      const std::size_t width = std::size_t{1} << below(4);
      if (head < width) break;
      const std::size_t at = below(head / width) * width;
      std::uint64_t value = 0;
      std::memcpy(&value, input.data() + at, width);
      const std::uint64_t telling[] = {0,         1,          64,         65536,     ~std::uint64_t{0},
                                       value + 1, value - 1,  value + 64, value - 64, value * 2,
                                       value / 2, value ^ 128, std::uint64_t{1} << 31, input.size()};
      value = telling[below(std::size(telling))];
      std::memcpy(input.data() + at, &value, width);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: %s FOLDER_OF_SEEDS SECONDS, or %s INPUT 0\n", argv[0], argv[0]);
    return 2;
  }
  std::vector<std::filesystem::path> paths;
  if (std::filesystem::is_directory(argv[1])) {
    for (const auto& entry : std::filesystem::directory_iterator(argv[1])) paths.push_back(entry.path());
  } else {
    paths.emplace_back(argv[1]);
  }
  std::sort(paths.begin(), paths.end());
  std::vector<Input> seeds;
  for (const auto& path : paths) {
    std::ifstream stream(path, std::ios::binary);
    seeds.emplace_back(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
    const bool taken = run_input(seeds.back().data(), seeds.back().size());
    std::printf("%s: %s\n", path.c_str(), taken ? "taken" : "refused");
  }
  const double seconds = std::strtod(argv[2], nullptr);
  if (seeds.empty()) return 2;
  std::mt19937_64 random(0);
  std::size_t inputs = 0, taken = 0;
  const auto begin = std::chrono::steady_clock::now();
  while (std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() < seconds) {
    Input input = seeds[random() % seeds.size()];
    for (std::size_t changes = 1 + random() % 4; changes > 0; --changes) change(input, seeds, random);
    std::ofstream last(kLastInput, std::ios::binary);
    last.write(reinterpret_cast<const char*>(input.data()), static_cast<std::streamsize>(input.size()));
    last.close();
    taken += run_input(input.data(), input.size());
    ++inputs;
  }
  std::filesystem::remove(kLastInput);
  std::printf("%zu inputs, of which the loader took %zu; no fault\n", inputs, taken);
  return 0;
}
#endif
