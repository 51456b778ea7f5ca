// Whether a shape makes sense, and whether a call fits the shape that its plan was made for.
#pragma once

#include "tilewise/attention.h"
#include "variant/call.h"

namespace tilewise::attention {

/// Throws Error(invalid_argument) naming the field.
void check_shape(const Variant& variant, const PlanShape& shape);

/// Throws Error(invalid_argument) naming the argument: dtypes, heads and head dimensions must be the plan's, b and
/// lengths at most its.
void check_planned(const PlanShape& shape, const ForwardInputs& inputs, const variant::Call& call);

/// Throws unless tensors have the dtypes that a plan has for them.
void check_dtype(const char* name, const ConstTensor& tensor, DType planned);
void check_outputs(const PlanShape& shape, const ForwardOutputs& outputs);
void check_outputs(const PlanShape& shape, const BackwardInputs& given, const BackwardOutputs& outputs);

/// Throws Error(invalid_argument) where o or lse is missing, or a tensor of a backward pass has another dtype than
/// planned.
void check_gradients(const PlanShape& shape, const BackwardInputs& given, const BackwardOutputs& outputs);

/// Throws unless the workspace lies on that device.
void expect_on(const Workspace& workspace, const Device& device);

inline DType kv_dtype_of(const PlanShape& shape) { return shape.kv_dtype.value_or(shape.dtype); }
inline DType o_dtype_of(const PlanShape& shape) {
  return shape.o_dtype.value_or(shape.dtype == DType::float8_e4m3 ? DType::bfloat16 : shape.dtype);
}

/// Proves that reads of tables lie inside for the plan's lengths, with offset 0 for keys and aligned ends. Throws
/// Error(invalid_argument) where PlanShape::tables lacks a table that needs it, and as expect_reads_inside.
/// Returns whether there was anything to prove.
bool prove_planned_reads(const Variant& variant, const PlanShape& shape);

/// The same for a call, where it is not among what the plan's proof covers.
void prove_reads(const Variant& variant, const PlanShape& shape, const ForwardInputs& inputs,
                 const variant::Call& call);

/// The extents of the variant's tables by the plan; 1 where they are not given.
std::vector<std::vector<std::int64_t>> planned_extents(const Variant& variant, const PlanShape& shape);

}  // namespace tilewise::attention
