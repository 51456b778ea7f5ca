#include "calls.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <map>
#include <string>

#include "openmp.h"
#include "recipe.h"
#include "tilewise/error.h"

namespace nb = nanobind;

namespace tilewise::python {

namespace {

bool is_given(const nb::object& object) { return object.is_valid() && !object.is_none(); }

Device device_of(const Array& array, const char* name) {
  switch (array.device_type()) {
    case dlpack::DeviceType::cpu: return Device::cpu();
    case dlpack::DeviceType::cuda:
    case dlpack::DeviceType::cuda_managed: return Device::cuda(array.device_id());
    default:
      throw Error(ErrorCode::unsupported, std::string(name) + " lies on a device of DLPack's kind " +
                                              std::to_string(static_cast<int>(array.device_type())) +
                                              "; Tilewise computes on the processor and on CUDA GPUs");
  }
}

void expect_same_device(const Array& array, const char* name, const Array& q) {
  const Device expected = device_of(q, "q"), found = device_of(array, name);
  if (!(expected == found)) {
    throw Error(ErrorCode::invalid_argument, std::string(name) + " lies on " + found.text() + " and q on " +
                                                 expected.text() + "; expected all arrays on one device");
  }
}

// For the processor. The fast exchange means PyTorch, or a framework with OpenMP's threads as well.
Device processor_of(const Array& q, const Array& k) {
  if (!q.is_from_exchange() || k.view().rank < 3) return Device::cpu();
  const std::int64_t products = q.view().elements() * k.view().extents[static_cast<std::size_t>(k.view().rank - 2)];
  constexpr std::int64_t kTooFewToShare = std::int64_t{1} << 20;  // some tens of microseconds on one core
  Executor* executor = products < kTooFewToShare ? &calling_thread() : openmp_executor();
  return executor != nullptr ? Device::cpu(*executor) : Device::cpu();
}

// The arrays of one call, and what the library is to be told of them.
class Call {
 public:
  Call(nb::handle q, nb::handle k, nb::handle v, const Options& options)
      : q_object_(q), q_(q, "q"), k_(k, "k"), v_(v, "v"), bound_(options), device_(device_of(q_, "q")) {
    expect_same_device(k_, "k", q_);
    expect_same_device(v_, "v", q_);
    if (!device_.is_cuda()) device_ = processor_of(q_, k_);
    inputs_.q = in_own_layout(q_.read(), options.layout);
    inputs_.k = in_own_layout(k_.read(), options.layout);
    inputs_.v = in_own_layout(v_.read(), options.layout);
    take_optional(options.block_table, block_table_, "block_table", inputs_.block_table);
    take_scales(options.k_scales, k_scales_, "k_scales", options.layout, inputs_.k_scales);
    take_scales(options.v_scales, v_scales_, "v_scales", options.layout, inputs_.v_scales);
    inputs_.scale = options.scale;
    inputs_.tables = bound_.tables();
    inputs_.parameters = options.parameters;
    inputs_.sequences = options.sequences;
    inputs_.dropout_probability = options.dropout;
    inputs_.seed = options.seed;
    inputs_.seed_offset = options.seed_offset;
    if (options.query_offset) set_query_offset(*options.query_offset);
  }

  const ForwardInputs& inputs() const { return inputs_; }
  const Array& q() const { return q_; }
  bool is_on_gpu() const { return device_.is_cuda(); }
  bool is_contiguous() const {
    const auto holds = [](const ConstTensor& tensor) {
      return tensor.rank == 0 || tensor.strides[static_cast<std::size_t>(tensor.rank - 1)] == 1;
    };
    return holds(inputs_.q) && holds(inputs_.k) && holds(inputs_.v);
  }

  Plan plan(Recipe& recipe, bool backward) const {
    const PlanShape shape = shape_of(backward);
    constexpr std::int64_t kFewQueries = 16;
    const bool is_decoding = shape.s_q <= kFewQueries && shape.s_q < shape.s_kv;
    return recipe.plan(shape, device_, is_decoding);
  }

  /// Calls run(workspace) on the stream that the arrays' framework works on, or run() on the processor.
  template <class Run>
  void run_on_stream(const Plan& plan, const Run& run) const {
    // Memory for one thread, GPU and stream, as large as the largest plan has needed so far.
    static thread_local std::map<std::pair<int, void*>, Workspace> workspaces;
    void* stream = current_stream(q_object_, q_);
    Workspace& workspace = workspaces.try_emplace({device_.ordinal(), stream}, 0, device_, stream).first->second;
    const std::int64_t bytes = plan.workspace_bytes();
    nb::gil_scoped_release unlocked;
    if (workspace.bytes() < bytes) workspace = Workspace(bytes, device_, stream);
    run(workspace);
  }

  PlanShape shape_of(bool backward) const {
    const ConstTensor &q = inputs_.q, &k = inputs_.k, &v = inputs_.v;
    if (q.rank < 3 || k.rank < 3 || v.rank < 3 || v.rank != k.rank) {
      throw Error(ErrorCode::invalid_argument,
                  "q, k and v have " + std::to_string(q.rank) + ", " + std::to_string(k.rank) + " and " +
                      std::to_string(v.rank) +
                      " axes; expected 4, [batch, heads, length, dim], or 3 with packed sequences");
    }
    PlanShape shape;
    const auto axis = [](const ConstTensor& tensor, int from_end) {
      return tensor.extents[static_cast<std::size_t>(tensor.rank - from_end)];
    };
    shape.dtype = q.dtype;
    if (k.dtype != q.dtype) shape.kv_dtype = k.dtype;
    shape.h_q = axis(q, 3);
    shape.h_kv = axis(k, 3);
    shape.d_qk = axis(q, 1);
    shape.d_v = axis(v, 1);
    shape.s_q = axis(q, 2);
    shape.s_kv = axis(k, 2);
    shape.backward = backward;
    shape.b = std::max<std::int64_t>(q.rank == 4 ? q.extents[0] : 1, 1);
    if (!inputs_.sequences.empty()) take_lengths(shape);
    for (const TableBinding& binding : inputs_.tables) {
      const auto rank = static_cast<std::size_t>(binding.data.rank);
      shape.tables.push_back(
          {binding.table, {binding.data.extents.begin(), binding.data.extents.begin() + static_cast<int>(rank)}});
    }
    return shape;
  }

 private:
  void take_lengths(PlanShape& shape) const {
    const std::vector<Sequence>& sequences = inputs_.sequences;
    if (inputs_.q.rank == 3) shape.query_tokens = shape.s_q;
    if (inputs_.k.rank == 3) shape.key_tokens = shape.s_kv;
    shape.b = static_cast<std::int64_t>(sequences.size());
    shape.s_q = shape.s_kv = 0;
    for (const Sequence& sequence : sequences) {
      shape.s_q = std::max(shape.s_q, sequence.s_q);
      shape.s_kv = std::max(shape.s_kv, sequence.s_kv);
    }
    const std::int64_t first = sequences.front().first_query_position();
    const bool are_equal =
        std::ranges::all_of(sequences, [&](const Sequence& each) { return each.first_query_position() == first; });
    if (are_equal) shape.query_offset = first;
  }

  void set_query_offset(std::int64_t query_offset) {
    if (inputs_.sequences.empty() && inputs_.q.rank == 4 && inputs_.k.rank == 4) {
      inputs_.sequences.assign(static_cast<std::size_t>(inputs_.q.extents[0]),
                               {.s_q = inputs_.q.extents[2], .s_kv = inputs_.k.extents[2]});
    }
    for (Sequence& sequence : inputs_.sequences) sequence.query_offset = query_offset;
  }

  void take_optional(const nb::object& object, std::optional<Array>& array, const char* name,
                     std::optional<ConstTensor>& tensor) {
    if (!is_given(object)) return;
    array.emplace(object, name);
    expect_same_device(*array, name, q_);
    tensor = array->read();
  }

  void take_scales(const nb::object& object, std::optional<Array>& array, const char* name, Layout layout,
                   std::optional<ConstTensor>& tensor) {
    take_optional(object, array, name, tensor);
    if (tensor) tensor = in_own_layout(*tensor, layout, false);
  }

  nb::handle q_object_;
  Array q_, k_, v_;
  std::optional<Array> block_table_, k_scales_, v_scales_;
  BoundArrays bound_;
  ForwardInputs inputs_;
  Device device_;
};

void run_forward(const Call& call, const Plan& plan, const ForwardOutputs& outputs) {
  if (call.is_on_gpu()) {
    call.run_on_stream(plan, [&](Workspace& workspace) { plan.forward(call.inputs(), outputs, workspace); });
  } else {
    nb::gil_scoped_release unlocked;
    plan.forward(call.inputs(), outputs);
  }
}

ForwardOutputs outputs_of(const Call& call, const Array& o, const std::optional<Array>& lse, Layout layout) {
  expect_same_device(o, "o", call.q());
  if (lse) expect_same_device(*lse, "lse", call.q());
  ForwardOutputs outputs{.o = in_own_layout(o.write("o"), layout)};
  if (lse) outputs.lse = lse->write("lse");
  return outputs;
}

/// False, and nothing done, where the last axis of q, k or v is not contiguous: then the caller copies them.
bool forward(const std::optional<Plan>& given_plan, Recipe* recipe, nb::handle q, nb::handle k, nb::handle v,
             nb::handle o, nb::handle lse, const Options& options) {
  const Call call(q, k, v, options);
  if (!call.is_contiguous()) return false;
  const Array o_array(o, "o");
  std::optional<Array> lse_array;
  if (!lse.is_none()) lse_array.emplace(lse, "lse");
  const ForwardOutputs outputs = outputs_of(call, o_array, lse_array, options.layout);
  run_forward(call, given_plan ? *given_plan : call.plan(*recipe, false), outputs);
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
    expect_same_device(*arrays.back(), name, call.q());
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

  const Plan plan = given_plan ? *given_plan : call.plan(*recipe, true);
  if (call.is_on_gpu()) {
    call.run_on_stream(plan, [&](Workspace& workspace) { plan.backward(call.inputs(), given, outputs, workspace); });
  } else {
    nb::gil_scoped_release unlocked;
    plan.backward(call.inputs(), given, outputs);
  }
}

void bind_options(nb::module_& module) {
  nb::enum_<Layout>(module, "Layout").value("bhsd", Layout::bhsd).value("bshd", Layout::bshd);
  nb::class_<Sequence>(module, "Sequence")
      .def(
          "__init__",
          [](Sequence* place, std::int64_t s_q, std::int64_t s_kv, std::optional<std::int64_t> query_offset,
             std::int64_t key_offset, std::int64_t key_start, std::int64_t first_query_token,
             std::int64_t first_key_token) {
            new (place) Sequence{s_q, s_kv, query_offset, key_offset, key_start, first_query_token, first_key_token};
          },
          nb::arg("s_q"), nb::arg("s_kv"), nb::arg("query_offset") = nb::none(), nb::arg("key_offset") = 0,
          nb::arg("key_start") = 0, nb::arg("first_query_token") = 0, nb::arg("first_key_token") = 0)
      .def_rw("s_q", &Sequence::s_q)
      .def_rw("s_kv", &Sequence::s_kv)
      .def_rw("query_offset", &Sequence::query_offset)
      .def_rw("key_offset", &Sequence::key_offset)
      .def_rw("key_start", &Sequence::key_start)
      .def_rw("first_query_token", &Sequence::first_query_token)
      .def_rw("first_key_token", &Sequence::first_key_token);
  nb::class_<Options>(module, "Options")
      .def(nb::init<>())
      .def("copy", [](const Options& options) { return Options(options); })
      .def_rw("layout", &Options::layout)
      .def_rw("scale", &Options::scale, nb::arg().none())
      .def_rw("tables", &Options::tables)
      .def("set_parameters",
           [](Options& options, const std::vector<std::pair<Parameter, double>>& values) {
             options.parameters.clear();
             for (const auto& [parameter, value] : values) options.parameters.push_back({parameter, value});
           })
      .def_rw("sequences", &Options::sequences)
      .def_rw("query_offset", &Options::query_offset, nb::arg().none())
      .def_rw("dropout", &Options::dropout, nb::arg().none())
      .def_rw("seed", &Options::seed)
      .def_rw("seed_offset", &Options::seed_offset)
      .def_rw("block_table", &Options::block_table, nb::arg().none())
      .def_rw("k_scales", &Options::k_scales, nb::arg().none())
      .def_rw("v_scales", &Options::v_scales, nb::arg().none());
  nb::class_<Gradients>(module, "Gradients")
      .def(nb::init<>())
      .def_rw("d_q", &Gradients::d_q, nb::arg().none())
      .def_rw("d_k", &Gradients::d_k, nb::arg().none())
      .def_rw("d_v", &Gradients::d_v, nb::arg().none())
      .def_rw("tables", &Gradients::tables)
      .def_rw("parameters", &Gradients::parameters);
}

PlanShape plan_shape(const std::string& dtype, const std::optional<std::string>& kv_dtype, std::int64_t b,
                     std::int64_t h_q, std::int64_t h_kv, std::int64_t d_qk, std::int64_t d_v, std::int64_t s_q,
                     std::int64_t s_kv, bool with_backward, std::optional<std::int64_t> query_offset,
                     std::optional<std::int64_t> query_tokens, std::optional<std::int64_t> key_tokens,
                     std::vector<std::pair<Table, std::vector<std::int64_t>>> tables) {
  PlanShape shape{.dtype = dtype_from_string(dtype),
                  .b = b,
                  .h_q = h_q,
                  .h_kv = h_kv,
                  .d_qk = d_qk,
                  .d_v = d_v,
                  .s_q = s_q,
                  .s_kv = s_kv,
                  .backward = with_backward,
                  .query_offset = query_offset,
                  .query_tokens = query_tokens,
                  .key_tokens = key_tokens};
  if (kv_dtype) shape.kv_dtype = dtype_from_string(*kv_dtype);
  for (auto& [table, extents] : tables) shape.tables.push_back({table, std::move(extents)});
  return shape;
}

Device device_from_text(const std::string& text) {
  if (text == "cpu") return Device::cpu();
  if (text == "cuda") return Device::cuda();
  if (text.starts_with("cuda:") && text.size() > 5 && text.size() < 9 &&
      text.find_first_not_of("0123456789", 5) == std::string::npos) {
    return Device::cuda(std::stoi(text.substr(5)));
  }
  throw Error(ErrorCode::invalid_argument, "device is '" + text + "'; expected 'cpu' or 'cuda:0'");
}

void bind_plans(nb::module_& module) {
  nb::class_<Plan>(module, "Plan")
      .def_prop_ro("workspace_bytes", &Plan::workspace_bytes)
      .def_prop_ro("instruction_set", &Plan::instruction_set)
      .def("explain", &Plan::explain);
  module.def(
      "plan",
      [](Recipe& recipe, const std::string& device, const std::string& dtype,
         const std::optional<std::string>& kv_dtype, std::int64_t b, std::int64_t h_q, std::int64_t h_kv,
         std::int64_t d_qk, std::int64_t d_v, std::int64_t s_q, std::int64_t s_kv, bool with_backward,
         std::optional<std::int64_t> query_offset, std::optional<std::int64_t> query_tokens,
         std::optional<std::int64_t> key_tokens, std::vector<std::pair<Table, std::vector<std::int64_t>>> tables) {
        return Attention(recipe.variant())
            .plan(plan_shape(dtype, kv_dtype, b, h_q, h_kv, d_qk, d_v, s_q, s_kv, with_backward, query_offset,
                             query_tokens, key_tokens, std::move(tables)),
                  device_from_text(device));
      },
      nb::arg("recipe"), nb::arg("device"), nb::arg("dtype"), nb::arg("kv_dtype").none(), nb::arg("b"), nb::arg("h_q"),
      nb::arg("h_kv"), nb::arg("d_qk"), nb::arg("d_v"), nb::arg("s_q"), nb::arg("s_kv"), nb::arg("backward"),
      nb::arg("query_offset").none(), nb::arg("query_tokens").none(), nb::arg("key_tokens").none(), nb::arg("tables"));
}

}  // namespace

BoundArrays::BoundArrays(const Options& options) {
  for (const auto& [table, object] : options.tables) {
    arrays_.push_back(std::make_unique<Array>(object, table.name().c_str()));
    tables_.push_back({table, arrays_.back()->read()});
  }
}

void bind_calls(nb::module_& module) {
  bind_options(module);
  bind_plans(module);
  const Options plain;
  module.attr("PLAIN") = nb::cast(plain);
  module.def(
      "forward",
      [](Recipe& recipe, nb::handle q, nb::handle k, nb::handle v, nb::handle o, nb::handle lse,
         const Options& options) { return forward(std::nullopt, &recipe, q, k, v, o, lse, options); },
      nb::arg("recipe"), nb::arg("q"), nb::arg("k"), nb::arg("v"), nb::arg("o"), nb::arg("lse").none(),
      nb::arg("options"));
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
