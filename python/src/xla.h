// Handlers of XLA's custom calls on the processor, for JAX.
#pragma once

#include <nanobind/nanobind.h>

namespace tilewise::python {

void bind_xla(nanobind::module_& module);

}  // namespace tilewise::python
