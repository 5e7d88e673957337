// The binding of phrases; edgespeech.biasing.phrases is the face of it.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bindings.hpp"
#include "phrases.hpp"

namespace nb = nanobind;

namespace edgespeech {
namespace {

using Bonuses = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Places = nb::ndarray<const std::uint32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Rows = nb::ndarray<nb::numpy, float, nb::ndim<2>>;

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    lines.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

std::shared_ptr<Phrases> make(std::vector<std::string> pieces, const nb::bytes& text, Bonuses bonuses,
                              std::size_t head) {
  const auto lines = lines_of({text.c_str(), text.size()});
  if (lines.size() != bonuses.shape(0))
    throw std::invalid_argument("phrases: got " + std::to_string(bonuses.shape(0)) + " bonuses, expected " +
                                std::to_string(lines.size()));
  if (!std::all_of(bonuses.data(), bonuses.data() + lines.size(),
                   [](float bonus) { return std::isfinite(bonus) && bonus >= 0; }))
    throw std::invalid_argument("phrases: a bonus is not a number of at least 0");
  const nb::gil_scoped_release released;
  return std::make_shared<Phrases>(std::move(pieces), lines, bonuses.data(), head);
}

std::uint32_t checked(const Phrases& phrases, std::uint32_t place) {
  if (place >= phrases.nodes())
    throw std::invalid_argument("phrases: place " + std::to_string(place) + ", expected less than " +
                                std::to_string(phrases.nodes()));
  return place;
}

std::pair<std::uint32_t, double> follow(const Phrases& phrases, std::uint32_t place, std::int32_t label) {
  if (label < 0 || static_cast<std::size_t>(label) >= phrases.vocabulary())
    throw std::invalid_argument("phrases: label " + std::to_string(label) + ", expected 0 to " +
                                std::to_string(phrases.vocabulary() - 1));
  double added = 0;
  const std::uint32_t next = phrases.follow(checked(phrases, place), label, &added);
  return {next, added};
}

std::pair<std::uint32_t, double> read(const Phrases& phrases, std::uint32_t place, const std::string& text) {
  double added = 0;
  const std::uint32_t next = phrases.read(checked(phrases, place), text, &added);
  return {next, added};
}

Rows rows(const Phrases& phrases, Places places, bool sunk) {
  const std::size_t width = phrases.vocabulary();
  auto values = std::make_unique<std::vector<float>>(places.shape(0) * width);
  for (std::size_t n = 0; n < places.shape(0); ++n)
    phrases.add_row(checked(phrases, places.data()[n]), sunk, values->data() + n * width);
  float* data = values->data();
  return Rows(data, {places.shape(0), width}, owner_of(values.release()));
}

}  // namespace

void bind_phrases(nb::module_& module) {
  module.attr("PHRASES_KEEP_BLANK") = true;  // phrases leave the blank as likely as it is
  nb::class_<Phrases>(module, "Phrases", "An automaton of phrases; see edgespeech.biasing.phrases.")
      .def(nb::new_(&make), nb::arg("pieces"), nb::arg("text"), nb::arg("bonuses").noconvert(),
           nb::arg("head"))
      .def_prop_ro("places", &Phrases::nodes)
      .def_prop_ro("phrases", &Phrases::phrases)
      .def_prop_ro("start", &Phrases::start)
      .def_prop_ro("bytes", &Phrases::bytes)
      .def_prop_ro("left_out", &Phrases::left_out)
      .def("follow", &follow, nb::arg("place"), nb::arg("label"))
      .def("read", &read, nb::arg("place"), nb::arg("text"))
      .def("rows", &rows, nb::arg("places").noconvert(), nb::arg("sunk"))
      .def("closing", [](const Phrases& phrases, std::uint32_t place) {
        return phrases.closing(checked(phrases, place));
      }, nb::arg("place"));
}

}  // namespace edgespeech
