// Opened models: continuing texts, logits, embeddings.
#pragma once

#include <nanobind/nanobind.h>

namespace tilewise::python {

void bind_models(nanobind::module_& module);

}  // namespace tilewise::python
