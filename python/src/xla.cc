#include "xla.h"

#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/vector.h>

#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "calls.h"
#include "recipe.h"
#include "tilewise/error.h"

namespace nb = nanobind;

namespace tilewise::python {

namespace {

/// What a compiled program of XLA calls: everything but the arrays. A program is a number there, since programs are
/// compared and kept by their attributes; so these live as long as the process.
struct Program {
  std::shared_ptr<Recipe> recipe;
  std::optional<double> scale;
  std::optional<std::int64_t> query_offset;
  std::optional<double> dropout;
  std::uint64_t seed = 0, seed_offset = 0;
  Layout layout = Layout::bhsd;
  std::vector<std::pair<Table, RawArray>> fixed;  // tables whose data is no argument
  std::vector<ParameterBinding> fixed_values;
  std::vector<Table> tables;          // [arguments behind q, k and v]
  std::vector<Parameter> parameters;  // [arguments behind those]
};

std::mutex programs_lock;
std::deque<Program> programs;

const Program& program_of(const xla::CallFrame& frame) {
  for (std::int64_t i = 0; i < frame.attributes.size; ++i) {
    const xla::ByteSpan& name = *frame.attributes.names[i];
    if (std::string_view(name.begin, name.size) != "program") continue;
    const auto number = *static_cast<const std::int64_t*>(static_cast<xla::Scalar*>(frame.attributes.items[i])->value);
    const std::scoped_lock locked(programs_lock);
    if (number >= 0 && static_cast<std::size_t>(number) < programs.size()) {
      return programs[static_cast<std::size_t>(number)];
    }
  }
  throw Error(tilewise::ErrorCode::invalid_argument, "the call names no program of this process");
}

DType dtype_of(std::int32_t code) {
  switch (code) {
    case 1: return DType::boolean;
    case 2: return DType::int8;
    case 4: return DType::int32;
    case 5: return DType::int64;
    case 6: return DType::uint8;
    case 10: return DType::float16;
    case 11: return DType::float32;
    case 12: return DType::float64;
    case 16: return DType::bfloat16;
    default:
      throw Error(tilewise::ErrorCode::invalid_argument,
                  "an array is of XLA's type " + std::to_string(code) + ", which Tilewise does not know");
  }
}

/// The arrays of one call, of which vmap may have made several with axes in front.
class Batch {
 public:
  explicit Batch(const xla::CallFrame& frame) : frame_(frame) {
    constexpr std::int64_t kRankOfQueries = 4;
    const xla::Buffer& q = buffer(frame.arguments, 0);
    leading_ = q.rank - kRankOfQueries;
    if (leading_ < 0) throw Error(tilewise::ErrorCode::invalid_argument, "q has fewer than 4 axes");
    for (std::int64_t axis = 0; axis < leading_; ++axis) calls_ *= q.extents[axis];
  }

  std::int64_t calls() const { return calls_; }
  ConstTensor argument(std::int64_t index, std::int64_t call) const { return view(frame_.arguments, index, call); }
  Tensor result(std::int64_t index, std::int64_t call) const { return view(frame_.results, index, call); }

 private:
  static const xla::Buffer& buffer(const xla::Buffers& buffers, std::int64_t index) {
    return *static_cast<const xla::Buffer*>(buffers.items[index]);
  }

  Tensor view(const xla::Buffers& buffers, std::int64_t index, std::int64_t call) const {
    const xla::Buffer& each = buffer(buffers, index);
    const std::span extents(each.extents, static_cast<std::size_t>(each.rank));
    const DType dtype = dtype_of(each.dtype);
    Tensor tensor(nullptr, dtype, extents.subspan(static_cast<std::size_t>(leading_)));
    tensor.data = static_cast<std::byte*>(each.data) + call * tensor.elements() * size_of(dtype);
    return tensor;
  }

  const xla::CallFrame& frame_;
  std::int64_t leading_ = 0;
  std::int64_t calls_ = 1;
};

double number_of(const ConstTensor& scalar) {
  switch (scalar.dtype) {
    case DType::float64: return *static_cast<const double*>(scalar.data);
    case DType::float32: return *static_cast<const float*>(scalar.data);
    case DType::int32: return *static_cast<const std::int32_t*>(scalar.data);
    default:
      throw Error(
          tilewise::ErrorCode::invalid_argument,
          std::string("a parameter's value is ") + to_string(scalar.dtype) + "; expected float32, float64 or int32");
  }
}

ForwardInputs inputs_of(const Program& program, const Batch& batch, std::int64_t first_table, std::int64_t call) {
  ForwardInputs inputs;
  inputs.q = in_own_layout(batch.argument(0, call), program.layout);
  inputs.k = in_own_layout(batch.argument(1, call), program.layout);
  inputs.v = in_own_layout(batch.argument(2, call), program.layout);
  inputs.scale = program.scale;
  inputs.dropout_probability = program.dropout;
  inputs.seed = program.seed;
  inputs.seed_offset = program.seed_offset;
  inputs.parameters = program.fixed_values;
  for (const auto& [table, raw] : program.fixed) {
    inputs.tables.push_back({table, ConstTensor(raw.data.data(), raw.dtype, raw.extents)});
  }
  std::int64_t next = first_table;
  for (const Table& table : program.tables) inputs.tables.push_back({table, batch.argument(next++, call)});
  for (const Parameter& parameter : program.parameters) {
    inputs.parameters.push_back({parameter, number_of(batch.argument(next++, call))});
  }
  if (program.query_offset) {
    inputs.sequences.assign(
        static_cast<std::size_t>(inputs.q.extents[0]),
        {.s_q = inputs.q.extents[2], .s_kv = inputs.k.extents[2], .query_offset = program.query_offset});
  }
  return inputs;
}

Plan plan_of(const Program& program, const ForwardInputs& inputs, bool backward) {
  PlanShape shape{.dtype = inputs.q.dtype,
                  .b = std::max<std::int64_t>(inputs.q.extents[0], 1),
                  .h_q = inputs.q.extents[1],
                  .h_kv = inputs.k.extents[1],
                  .d_qk = inputs.q.extents[3],
                  .d_v = inputs.v.extents[3],
                  .s_q = inputs.q.extents[2],
                  .s_kv = inputs.k.extents[2],
                  .backward = backward,
                  .query_offset = program.query_offset};
  if (inputs.k.dtype != inputs.q.dtype) shape.kv_dtype = inputs.k.dtype;
  for (const TableBinding& each : inputs.tables) {
    shape.tables.push_back({each.table, {each.data.extents.begin(), each.data.extents.begin() + each.data.rank}});
  }
  return program.recipe->plan(shape, Device::cpu(), false);
}

void forward(const xla::CallFrame& frame) {
  const Program& program = program_of(frame);
  const Batch batch(frame);
  for (std::int64_t call = 0; call < batch.calls(); ++call) {
    const ForwardInputs inputs = inputs_of(program, batch, 3, call);
    const ForwardOutputs outputs{.o = in_own_layout(batch.result(0, call), program.layout),
                                 .lse = batch.result(1, call)};
    plan_of(program, inputs, false).forward(inputs, outputs);
  }
}

/// Arguments: q, k, v, o, lse, d_o, d_lse, tables, parameters. Results: d_q, d_k, d_v, then one for each table and
/// parameter of reals.
void backward(const xla::CallFrame& frame) {
  const Program& program = program_of(frame);
  const Batch batch(frame);
  for (std::int64_t call = 0; call < batch.calls(); ++call) {
    const ForwardInputs inputs = inputs_of(program, batch, 7, call);
    const BackwardInputs given{.o = in_own_layout(batch.argument(3, call), program.layout),
                               .lse = batch.argument(4, call),
                               .d_o = in_own_layout(batch.argument(5, call), program.layout),
                               .d_lse = batch.argument(6, call)};
    BackwardOutputs outputs{.d_q = in_own_layout(batch.result(0, call), program.layout),
                            .d_k = in_own_layout(batch.result(1, call), program.layout),
                            .d_v = in_own_layout(batch.result(2, call), program.layout)};
    std::int64_t next = 3;
    for (const Table& table : program.tables) {
      if (table.type() == Type::real) outputs.d_tables.push_back({table, batch.result(next++, call)});
    }
    for (const Parameter& parameter : program.parameters) {
      if (parameter.type() == Type::real) outputs.d_parameters.push_back({parameter, batch.result(next++, call)});
    }
    plan_of(program, inputs, true).backward(inputs, given, outputs);
  }
}

/// Runs `work`, and answers what XLA asks of a handler: its version, and an error in place of an exception.
template <void (*work)(const xla::CallFrame&)>
xla::Error* handle(xla::CallFrame* frame) {
  for (xla::Extension* each = frame->extension; each != nullptr; each = each->next) {
    if (each->type != xla::kMetadata) continue;
    xla::Metadata& metadata = *reinterpret_cast<xla::MetadataExtension*>(each)->metadata;
    metadata.version.major = 0;
    metadata.version.minor = 1;
    metadata.traits = 0;
    return nullptr;
  }
  if (frame->stage != xla::kExecute) return nullptr;
  const auto error = [&](const char* message, xla::ErrorCode code) {
    xla::ErrorArguments arguments{sizeof(xla::ErrorArguments), nullptr, message, code};
    return frame->api->create_error(&arguments);
  };
  try {
    work(*frame);
    return nullptr;
  } catch (const Error& failure) {
    return error(failure.what(), xla::ErrorCode::invalid_argument);
  } catch (const std::exception& failure) {
    return error(failure.what(), xla::ErrorCode::internal);
  }
}

}  // namespace

void bind_xla(nb::module_& module) {
  module.def(
      "xla_program",
      [](std::shared_ptr<Recipe> recipe, const Options& options, std::vector<std::pair<Table, RawArray>> fixed,
         std::vector<Table> tables, std::vector<Parameter> parameters) {
        const std::scoped_lock locked(programs_lock);
        programs.push_back({std::move(recipe), options.scale, options.query_offset, options.dropout, options.seed,
                            options.seed_offset, options.layout, std::move(fixed), options.parameters,
                            std::move(tables), std::move(parameters)});
        return programs.size() - 1;
      },
      nb::arg("recipe"), nb::arg("options"), nb::arg("fixed"), nb::arg("tables"), nb::arg("parameters"));
  module.def("xla_forward", [] { return nb::capsule(reinterpret_cast<void*>(&handle<forward>)); });
  module.def("xla_backward", [] { return nb::capsule(reinterpret_cast<void*>(&handle<backward>)); });
}

}  // namespace tilewise::python
