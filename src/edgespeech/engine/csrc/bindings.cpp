// The native engine's binding. One small function for now: the dot product that every packed kernel is built on.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstddef>
#include <cstdint>
#include <stdexcept>

namespace nb = nanobind;
using Int8Vector = nb::ndarray<const std::int8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

// |product| <= 2^14, so 2^16 of them stay inside int32.
constexpr std::size_t kMaxElements = std::size_t{1} << 16;

static std::int32_t dot_int8(Int8Vector a, Int8Vector b) {
  if (a.shape(0) != b.shape(0)) throw std::invalid_argument("dot_int8: a and b differ in length");
  if (a.shape(0) > kMaxElements) throw std::invalid_argument("dot_int8: more than 65536 elements");
  std::int32_t sum = 0;
  for (std::size_t i = 0; i < a.shape(0); ++i) sum += std::int32_t{a.data()[i]} * std::int32_t{b.data()[i]};
  return sum;
}

NB_MODULE(_native, m) {
  m.doc() = "Native kernels; each has a slow, obvious twin in edgespeech.engine.reference.";
  m.def("dot_int8", &dot_int8, nb::arg("a").noconvert(), nb::arg("b").noconvert(),
        "Dot product of two int8 vectors, with shape (N,), N <= 65536, accumulated exactly in int32.");
}
