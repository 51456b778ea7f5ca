#include "xla.h"

#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <limits>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "options.h"
#include "recipe.h"
#include "shape.h"
#include "tilewise/error.h"

namespace nb = nanobind;

namespace tilewise::python {

namespace {

/// What a compiled program of XLA calls: everything but the arrays. A program is a number there, since programs are
/// compared and kept by their attributes; so these live as long as the process.
struct Program {
  std::shared_ptr<Recipe> recipe;
  Options options;  // without arrays
  int rank;         // of q: 3 where it is packed
  bool has_pages, has_scales;
  std::vector<std::pair<Table, RawArray>> fixed;  // tables whose data is no argument
  std::vector<Table> tables;
  std::vector<Parameter> parameters;

  // Where the arguments lie that depend on the program: a block table, scales of k and of v, tables, parameters; behind
  // q, k and v, and in a backward pass also behind o, lse, d_o and d_lse.
  std::int64_t first_scales(std::int64_t first) const { return first + (has_pages ? 1 : 0); }
  std::int64_t first_table(std::int64_t first) const { return first_scales(first) + (has_scales ? 2 : 0); }
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
  Batch(const xla::CallFrame& frame, int rank_of_queries) : frame_(frame) {
    const xla::Buffer& q = buffer(frame.arguments, 0);
    leading_ = q.rank - rank_of_queries;
    if (leading_ < 0) throw Error(tilewise::ErrorCode::invalid_argument, "q has fewer axes than when it was traced");
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

/// Of one call; `first` is the first argument that depends on the program.
ForwardInputs inputs_of(const Program& program, const Batch& batch, std::int64_t first, std::int64_t call) {
  const Options& options = program.options;
  ForwardInputs inputs;
  inputs.q = in_own_layout(batch.argument(0, call), options.layout);
  inputs.k = in_own_layout(batch.argument(1, call), options.layout);
  inputs.v = in_own_layout(batch.argument(2, call), options.layout);
  inputs.scale = options.scale;
  inputs.dropout_probability = options.dropout;
  inputs.seed = options.seed;
  inputs.seed_offset = options.seed_offset;
  inputs.parameters = options.parameters;
  inputs.sequences = options.sequences;
  if (program.has_pages) inputs.block_table = batch.argument(first, call);
  if (program.has_scales) {
    const std::int64_t scales = program.first_scales(first);
    inputs.k_scales = in_own_layout(batch.argument(scales, call), options.layout, false);
    inputs.v_scales = in_own_layout(batch.argument(scales + 1, call), options.layout, false);
  }
  for (const auto& [table, raw] : program.fixed) {
    inputs.tables.push_back({table, ConstTensor(raw.data.data(), raw.dtype, raw.extents)});
  }
  std::int64_t next = program.first_table(first);
  for (const Table& table : program.tables) inputs.tables.push_back({table, batch.argument(next++, call)});
  for (const Parameter& parameter : program.parameters) {
    inputs.parameters.push_back({parameter, number_of(batch.argument(next++, call))});
  }
  if (options.query_offset) set_query_offset(inputs, *options.query_offset);
  return inputs;
}

Plan plan_of(const Program& program, const ForwardInputs& inputs, bool backward) {
  return program.recipe->plan(shape_of(inputs, backward), Device::cpu(), false);
}

/// XLA's memory holds anything at first, and rows of no sequence are not written.
template <class T>
void fill(const Tensor& tensor, T value) {
  std::fill_n(static_cast<T*>(tensor.data), tensor.elements(), value);
}
void clear(const Tensor& tensor) {
  std::memset(tensor.data, 0, static_cast<std::size_t>(tensor.elements() * size_of(tensor.dtype)));
}
void mark_as_empty(const Tensor& lse) {
  if (lse.dtype == DType::float64) return fill(lse, -std::numeric_limits<double>::infinity());
  fill(lse, -std::numeric_limits<float>::infinity());
}

void forward(const xla::CallFrame& frame) {
  const Program& program = program_of(frame);
  const Batch batch(frame, program.rank);
  for (std::int64_t call = 0; call < batch.calls(); ++call) {
    const ForwardInputs inputs = inputs_of(program, batch, 3, call);
    const ForwardOutputs outputs{.o = in_own_layout(batch.result(0, call), program.options.layout),
                                 .lse = batch.result(1, call)};
    if (!inputs.sequences.empty()) {
      clear(batch.result(0, call));
      mark_as_empty(batch.result(1, call));
    }
    plan_of(program, inputs, false).forward(inputs, outputs);
  }
}

/// Arguments: q, k, v, o, lse, d_o, d_lse, then what depends on the program. Results: d_q, d_k, d_v, then one for each
/// table and parameter of reals.
void backward(const xla::CallFrame& frame) {
  const Program& program = program_of(frame);
  const Batch batch(frame, program.rank);
  const Layout layout = program.options.layout;
  for (std::int64_t call = 0; call < batch.calls(); ++call) {
    const ForwardInputs inputs = inputs_of(program, batch, 7, call);
    const BackwardInputs given{.o = in_own_layout(batch.argument(3, call), layout),
                               .lse = batch.argument(4, call),
                               .d_o = in_own_layout(batch.argument(5, call), layout),
                               .d_lse = batch.argument(6, call)};
    BackwardOutputs outputs{.d_q = in_own_layout(batch.result(0, call), layout),
                            .d_k = in_own_layout(batch.result(1, call), layout),
                            .d_v = in_own_layout(batch.result(2, call), layout)};
    if (!inputs.sequences.empty()) {
      for (const int result : {0, 1, 2}) clear(batch.result(result, call));
    }
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
      [](std::shared_ptr<Recipe> recipe, const Options& options, int rank, bool has_pages, bool has_scales,
         std::vector<std::pair<Table, RawArray>> fixed, std::vector<Table> tables, std::vector<Parameter> parameters) {
        const std::scoped_lock locked(programs_lock);
        programs.push_back({std::move(recipe), options, rank, has_pages, has_scales, std::move(fixed),
                            std::move(tables), std::move(parameters)});
        return programs.size() - 1;
      },
      nb::arg("recipe"), nb::arg("options"), nb::arg("rank"), nb::arg("has_pages"), nb::arg("has_scales"),
      nb::arg("fixed"), nb::arg("tables"), nb::arg("parameters"));
  module.def("xla_forward", [] { return nb::capsule(reinterpret_cast<void*>(&handle<forward>)); });
  module.def("xla_backward", [] { return nb::capsule(reinterpret_cast<void*>(&handle<backward>)); });
}

}  // namespace tilewise::python
