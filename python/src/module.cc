// The extension module tilewise._core: the public headers as Python objects. What users call is python/tilewise/.
#include <nanobind/nanobind.h>

#include <exception>

#include "arrays.h"
#include "calls.h"
#include "expressions.h"
#include "models.h"
#include "options.h"
#include "recipe.h"
#include "tilewise/error.h"
#include "xla.h"

namespace nb = nanobind;

namespace {

// Errors of the library become the exceptions of tilewise._errors, which know their code.
void translate(const std::exception_ptr& pointer, void*) {
  try {
    std::rethrow_exception(pointer);
  } catch (const tilewise::Error& error) {
    const nb::object type = nb::module_::import_("tilewise._errors").attr("BY_CODE")[tilewise::to_string(error.code())];
    PyErr_SetString(type.ptr(), error.what());
  }
}

}  // namespace

NB_MODULE(_core, module) {
  nb::set_leak_warnings(false);  // variants that a program keeps until its end are no leak
  nb::register_exception_translator(translate);
  tilewise::python::bind_arrays(module);
  tilewise::python::bind_expressions(module);
  tilewise::python::bind_options(module);
  tilewise::python::bind_plans(module);
  tilewise::python::bind_calls(module);
  tilewise::python::bind_variants(module);
  tilewise::python::bind_models(module);
  tilewise::python::bind_xla(module);
}
