// Symbolic values in Python: what a lambda computes with while it is recorded.
#pragma once

#include <nanobind/nanobind.h>

#include <optional>

#include "tilewise/variant.h"

namespace tilewise::python {

/// A symbolic value, a parameter or a number as an expression of the recording at hand; empty for anything else.
std::optional<Expr> expression_of(nanobind::handle value);

/// Likewise; throws a Python TypeError that names `what` for anything else.
Expr expect_expression(nanobind::handle value, const char* what);

void bind_expressions(nanobind::module_& module);

}  // namespace tilewise::python
