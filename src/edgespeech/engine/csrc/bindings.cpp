// The native engine's binding. Checks what Python hands over; edgespeech.packed.loader is the face of it.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "bindings.hpp"
#include "edge_file.hpp"
#include "kernels.hpp"

namespace nb = nanobind;
using namespace edgespeech;
using Int8Vector = nb::ndarray<const std::int8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Activations = nb::ndarray<const std::int8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<nb::numpy, nb::ro>;
using Products = nb::ndarray<nb::numpy, std::int32_t, nb::ndim<3>>;

// |product| <= 2^14, so 2^16 of them stay inside int32.
constexpr std::size_t kMaxElements = std::size_t{1} << 16;

static std::int32_t dot_int8(Int8Vector a, Int8Vector b) {
  if (a.shape(0) != b.shape(0)) throw std::invalid_argument("dot_int8: a and b differ in length");
  if (a.shape(0) > kMaxElements) throw std::invalid_argument("dot_int8: more than 65536 elements");
  std::int32_t sum = 0;
  for (std::size_t i = 0; i < a.shape(0); ++i) sum += std::int32_t{a.data()[i]} * std::int32_t{b.data()[i]};
  return sum;
}

// A file that can be closed. Views, and products that run, hold it until they are done.
class OpenFile {
 public:
  explicit OpenFile(const std::string& path) : path_(path), file_(std::make_shared<const EdgeFile>(path)) {}

  void close() { file_.reset(); }
  std::string meta() const { return std::string(file()->meta()); }
  std::uint64_t packed_bytes() const { return file()->packed_bytes(); }

  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const Tensor& tensor : file()->tensors()) names.push_back(tensor.name);
    return names;
  }

  std::pair<std::uint32_t, std::uint32_t> shape(const std::string& name) const {
    const auto kept = file();
    const Tensor& tensor = kept->tensor(name);
    return {tensor.rows, tensor.cols};
  }

  Floats floats(const std::string& name) const {
    auto kept = file();
    const Tensor& tensor = kept->tensor(name);
    if (tensor.encoding == Encoding::Codes)
      throw std::invalid_argument(path_ + ": tensor " + name + ": holds codes, expected floats");
    const nb::dlpack::dtype type{static_cast<std::uint8_t>(nb::dlpack::dtype_code::Float),
                                 static_cast<std::uint8_t>(tensor.encoding == Encoding::Fp16 ? 16 : 32), 1};
    const nb::capsule owner = owner_of(new std::shared_ptr<const EdgeFile>(std::move(kept)));
    return Floats(tensor.floats, {tensor.rows, tensor.cols}, owner, {}, type);
  }

  Products multiply(const std::string& name, Activations q, const std::optional<std::string>& isa) const {
    const auto kept = file();
    const PackedMatrix& matrix = kept->matrix(name);
    const Isa chosen = isa ? isa_named(*isa) : chosen_isa();
    const std::string where = path_ + ": tensor " + name + ": q";
    const std::size_t batch = q.shape(0), rows = matrix.rows, groups = matrix.groups();
    if (batch < 1 || batch > kMaxBatch)
      throw std::invalid_argument(where + " has " + std::to_string(batch) + " vectors, expected 1 to 8");
    if (q.shape(1) != matrix.cols)
      throw std::invalid_argument(where + " has " + std::to_string(q.shape(1)) + " columns, expected " +
                                  std::to_string(matrix.cols));
    auto out = std::make_unique<std::vector<std::int32_t>>(batch * rows * groups);
    {
      const nb::gil_scoped_release released;
      if (std::find(q.data(), q.data() + q.size(), -128) != q.data() + q.size())
        throw std::invalid_argument(where + " holds -128, expected -127 to 127");
      Scratch scratch;
      edgespeech::multiply(chosen, matrix, q.data(), batch, out->data(), scratch);
    }
    std::int32_t* data = out->data();
    const auto wide = static_cast<std::int64_t>(rows);
    return Products(data, {batch, rows, groups}, owner_of(out.release()),
                    {static_cast<std::int64_t>(groups) * wide, 1, wide});
  }

 private:
  std::shared_ptr<const EdgeFile> file() const {
    if (!file_) throw std::invalid_argument(path_ + ": the file is closed");
    return file_;
  }

  std::string path_;
  std::shared_ptr<const EdgeFile> file_;
};

static std::vector<std::string> isas() {
  std::vector<std::string> names;
  for (const Isa isa : kIsas)
    if (available(isa)) names.emplace_back(name(isa));
  return names;
}

NB_MODULE(_native, m) {
  m.doc() = "Native kernels; each has a slow, obvious twin in edgespeech.packed.reference.";
  m.def("dot_int8", &dot_int8, nb::arg("a").noconvert(), nb::arg("b").noconvert(),
        "Dot product of two int8 vectors, with shape (N,), N <= 65536, accumulated exactly in int32.");
  m.def("isas", &isas, "The kernels that this CPU can run.");
  m.def("chosen_isa", [] { return name(chosen_isa()); }, "The kernel used when none is asked for.");
  nb::class_<OpenFile>(m, "EdgeFile", "A checked .edge file in memory; see edgespeech.packed.loader.")
      .def(nb::init<const std::string&>(), nb::arg("path"), nb::call_guard<nb::gil_scoped_release>())
      .def("close", &OpenFile::close)
      .def_prop_ro("meta", &OpenFile::meta)
      .def_prop_ro("names", &OpenFile::names)
      .def_prop_ro("packed_bytes", &OpenFile::packed_bytes)
      .def("shape", &OpenFile::shape, nb::arg("name"))
      .def("floats", &OpenFile::floats, nb::arg("name"))
      .def("multiply", &OpenFile::multiply, nb::arg("name"), nb::arg("q").noconvert(),
           nb::arg("isa") = nb::none());
  bind_phrases(m);
  bind_runtime(m);
}
