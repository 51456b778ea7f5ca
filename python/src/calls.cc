#include "calls.h"

#include <nanobind/stl/pair.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "call.h"
#include "gpu.h"

namespace nb = nanobind;

namespace tilewise::python {

namespace {

void run_forward(const Call& call, const Plan& plan, const ForwardOutputs& outputs) {
  if (call.is_on_gpu()) {
    run_on_gpu(call.q_object(), call.q(), plan,
               [&](Workspace& workspace) { plan.forward(call.inputs(), outputs, workspace); });
  } else {
    nb::gil_scoped_release unlocked;
    plan.forward(call.inputs(), outputs);
  }
}

ForwardOutputs outputs_of(const Call& call, const Array& o, const std::optional<Array>& lse, Layout layout) {
  call.expect_beside_queries(o, "o");
  if (lse) call.expect_beside_queries(*lse, "lse");
  ForwardOutputs outputs{.o = in_own_layout(o.write("o"), layout)};
  if (lse) outputs.lse = lse->write("lse");
  return outputs;
}

/// False, and nothing done, where the last axis of q, k or v is not contiguous: then the caller copies them.
bool forward(const std::optional<Plan>& given_plan, Recipe* recipe, nb::handle q, nb::handle k, nb::handle v,
             nb::handle o, nb::handle lse, const Options& options, bool gradients_follow = false) {
  const Call call(q, k, v, options);
  if (!call.is_contiguous()) return false;
  const Array o_array(o, "o");
  std::optional<Array> lse_array;
  if (!lse.is_none()) lse_array.emplace(lse, "lse");
  const ForwardOutputs outputs = outputs_of(call, o_array, lse_array, options.layout);
  run_forward(call, given_plan ? *given_plan : call.forward_plan(*recipe, gradients_follow), outputs);
  return true;
}

/// Gradients that Python asks for: arrays or None.
struct Gradients {
  nb::object d_q, d_k, d_v;
  std::vector<std::pair<Table, nb::object>> tables;
  std::vector<std::pair<Parameter, nb::object>> parameters;
};

void backward(const std::optional<Plan>& given_plan, Recipe* recipe, nb::handle q, nb::handle k, nb::handle v,
              nb::handle o, nb::handle lse, nb::handle d_o, nb::handle d_lse, const Options& options,
              const Gradients& gradients) {
  const Call call(q, k, v, options);
  const Array o_array(o, "o"), lse_array(lse, "lse"), d_o_array(d_o, "d_o");
  std::optional<Array> d_lse_array;
  if (!d_lse.is_none()) d_lse_array.emplace(d_lse, "d_lse");
  BackwardInputs given{.o = in_own_layout(o_array.read(), options.layout),
                       .lse = lse_array.read(),
                       .d_o = in_own_layout(d_o_array.read(), options.layout)};
  if (d_lse_array) given.d_lse = d_lse_array->read();

  std::vector<std::unique_ptr<Array>> arrays;
  const auto view_of = [&](const nb::object& object, const char* name) {
    arrays.push_back(std::make_unique<Array>(object, name));
    call.expect_beside_queries(*arrays.back(), name);
    return arrays.back()->write(name);
  };
  BackwardOutputs outputs;
  const auto take = [&](const nb::object& object, const char* name, std::optional<Tensor>& tensor) {
    if (is_given(object)) tensor = in_own_layout(view_of(object, name), options.layout);
  };
  take(gradients.d_q, "d_q", outputs.d_q);
  take(gradients.d_k, "d_k", outputs.d_k);
  take(gradients.d_v, "d_v", outputs.d_v);
  for (const auto& [table, array] : gradients.tables) {
    outputs.d_tables.push_back({table, view_of(array, table.name().c_str())});
  }
  for (const auto& [parameter, array] : gradients.parameters) {
    outputs.d_parameters.push_back({parameter, view_of(array, parameter.name().c_str())});
  }

  const Plan plan = given_plan ? *given_plan : call.backward_plan(*recipe);
  if (call.is_on_gpu()) {
    run_on_gpu(call.q_object(), call.q(), plan,
               [&](Workspace& workspace) { plan.backward(call.inputs(), given, outputs, workspace); });
  } else {
    nb::gil_scoped_release unlocked;
    plan.backward(call.inputs(), given, outputs);
  }
}

void bind_gradients(nb::module_& module) {
  nb::class_<Gradients>(module, "Gradients")
      .def(nb::init<>())
      .def_rw("d_q", &Gradients::d_q, nb::arg().none())
      .def_rw("d_k", &Gradients::d_k, nb::arg().none())
      .def_rw("d_v", &Gradients::d_v, nb::arg().none())
      .def_rw("tables", &Gradients::tables)
      .def_rw("parameters", &Gradients::parameters);
}

}  // namespace

void bind_calls(nb::module_& module) {
  bind_gradients(module);
  module.def(
      "forward",
      [](Recipe& recipe, nb::handle q, nb::handle k, nb::handle v, nb::handle o, nb::handle lse, const Options& options,
         bool gradients_follow) { return forward(std::nullopt, &recipe, q, k, v, o, lse, options, gradients_follow); },
      nb::arg("recipe"), nb::arg("q"), nb::arg("k"), nb::arg("v"), nb::arg("o"), nb::arg("lse").none(),
      nb::arg("options"), nb::arg("gradients_follow") = false);
  module.def(
      "forward_planned",
      [](const Plan& plan, nb::handle q, nb::handle k, nb::handle v, nb::handle o, nb::handle lse,
         const Options& options) { return forward(plan, nullptr, q, k, v, o, lse, options); },
      nb::arg("plan"), nb::arg("q"), nb::arg("k"), nb::arg("v"), nb::arg("o"), nb::arg("lse").none(),
      nb::arg("options"));
  module.def(
      "backward",
      [](Recipe& recipe, nb::handle q, nb::handle k, nb::handle v, nb::handle o, nb::handle lse, nb::handle d_o,
         nb::handle d_lse, const Options& options, const Gradients& gradients) {
        backward(std::nullopt, &recipe, q, k, v, o, lse, d_o, d_lse, options, gradients);
      },
      nb::arg("recipe"), nb::arg("q"), nb::arg("k"), nb::arg("v"), nb::arg("o"), nb::arg("lse"), nb::arg("d_o"),
      nb::arg("d_lse").none(), nb::arg("options"), nb::arg("gradients"));
  module.def(
      "backward_planned",
      [](const Plan& plan, nb::handle q, nb::handle k, nb::handle v, nb::handle o, nb::handle lse, nb::handle d_o,
         nb::handle d_lse, const Options& options,
         const Gradients& gradients) { backward(plan, nullptr, q, k, v, o, lse, d_o, d_lse, options, gradients); },
      nb::arg("plan"), nb::arg("q"), nb::arg("k"), nb::arg("v"), nb::arg("o"), nb::arg("lse"), nb::arg("d_o"),
      nb::arg("d_lse").none(), nb::arg("options"), nb::arg("gradients"));
}

}  // namespace tilewise::python
