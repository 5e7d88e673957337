// Shared by the files of the bindings.
#pragma once

#include <nanobind/nanobind.h>

namespace edgespeech {

// A capsule that deletes `object` when the last array made from it goes.
template <typename Object>
nanobind::capsule owner_of(Object* object) {
  return nanobind::capsule(object, [](void* p) noexcept { delete static_cast<Object*>(p); });
}

void bind_phrases(nanobind::module_& module);
void bind_runtime(nanobind::module_& module);

}  // namespace edgespeech
