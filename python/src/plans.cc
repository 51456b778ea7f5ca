#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <utility>
#include <vector>

#include "calls.h"
#include "recipe.h"
#include "tilewise/error.h"

namespace nb = nanobind;

namespace tilewise::python {

namespace {

Device device_from_text(const std::string& text) {
  if (text == "cpu") return Device::cpu();
  if (text == "cuda") return Device::cuda();
  if (text.starts_with("cuda:") && text.size() > 5 && text.size() < 9 &&
      text.find_first_not_of("0123456789", 5) == std::string::npos) {
    return Device::cuda(std::stoi(text.substr(5)));
  }
  throw Error(ErrorCode::invalid_argument, "device is '" + text + "'; expected 'cpu' or 'cuda:0'");
}

void bind_shapes(nb::module_& module) {
  nb::class_<PlanShape>(module, "PlanShape")
      .def(nb::init<>())
      .def_prop_rw(
          "dtype", [](const PlanShape& shape) { return to_string(shape.dtype); },
          [](PlanShape& shape, const std::string& name) { shape.dtype = dtype_from_string(name); })
      .def_prop_rw(
          "kv_dtype", [](const PlanShape& shape) { return to_string(shape.kv_dtype.value_or(shape.dtype)); },
          [](PlanShape& shape, const std::string& name) { shape.kv_dtype = dtype_from_string(name); })
      .def_rw("b", &PlanShape::b)
      .def_rw("h_q", &PlanShape::h_q)
      .def_rw("h_kv", &PlanShape::h_kv)
      .def_rw("d_qk", &PlanShape::d_qk)
      .def_rw("d_v", &PlanShape::d_v)
      .def_rw("s_q", &PlanShape::s_q)
      .def_rw("s_kv", &PlanShape::s_kv)
      .def_rw("backward", &PlanShape::backward)
      .def_rw("deterministic", &PlanShape::deterministic)
      .def_rw("query_offset", &PlanShape::query_offset, nb::arg().none())
      .def_rw("query_tokens", &PlanShape::query_tokens, nb::arg().none())
      .def_rw("key_tokens", &PlanShape::key_tokens, nb::arg().none())
      .def("set_tables", [](PlanShape& shape, const std::vector<std::pair<Table, std::vector<std::int64_t>>>& tables) {
        shape.tables.clear();
        for (const auto& [table, extents] : tables) shape.tables.push_back({table, extents});
      });
}

}  // namespace

void bind_plans(nb::module_& module) {
  bind_shapes(module);
  nb::class_<Plan>(module, "Plan")
      .def_prop_ro("workspace_bytes", &Plan::workspace_bytes)
      .def_prop_ro("instruction_set", &Plan::instruction_set)
      .def("explain", &Plan::explain);
  module.def(
      "plan",
      [](const Recipe& recipe, const std::string& device, const PlanShape& shape) {
        return Attention(recipe.variant()).plan(shape, device_from_text(device));
      },
      nb::arg("recipe"), nb::arg("device"), nb::arg("shape"));
}

}  // namespace tilewise::python
