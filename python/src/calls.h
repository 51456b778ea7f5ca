// What the extension module computes: attention forward and backward, and plans of it.
#pragma once

#include <nanobind/nanobind.h>

namespace tilewise::python {

/// forward, backward, and both with a given plan.
void bind_calls(nanobind::module_& module);

/// Plan, its shape, and its making.
void bind_plans(nanobind::module_& module);

}  // namespace tilewise::python
