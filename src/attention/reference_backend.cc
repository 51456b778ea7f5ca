// float64: standard attention itself, which the kernels are held to.
#include "attention/backend.h"
#include "attention/check_plan.h"
#include "core/fail.h"
#include "tilewise/reference.h"

namespace tilewise::attention {
namespace {

class ReferenceBackend final : public Backend {
 public:
  using Backend::Backend;

  void forward(const ForwardInputs& inputs, const ForwardOutputs& outputs, Workspace&) const override {
    check_planned(shape(), inputs, variant::check_forward(variant(), inputs, outputs));
    check_outputs(shape(), outputs);
    standard_attention(variant(), inputs, outputs);
  }
  void backward(const ForwardInputs& inputs, const BackwardInputs& given, const BackwardOutputs& outputs,
                Workspace&) const override {
    check_planned(shape(), inputs, variant::check_backward(variant(), inputs, given, outputs));
    check_outputs(shape(), given, outputs);
    standard_attention_backward(variant(), inputs, given, outputs);
  }
  std::int64_t workspace_bytes() const override { return 0; }
  std::string instruction_set() const override { return "baseline"; }

  std::string explain() const override {
    return "backend: reference, standard attention in float64 on one thread; it holds the scores of a head, "
           "s_q x s_kv, in memory of its own\n";
  }
};

}  // namespace

std::shared_ptr<Backend> make_reference_backend(const Variant& variant, const PlanShape& shape) {
  const DType kv = shape.kv_dtype.value_or(shape.dtype);
  if (shape.dtype != DType::float64 || (kv != DType::float64 && kv != DType::int8)) {
    fail(ErrorCode::unsupported, "takes float64 alone, for its cost grows with s_q x s_kv");
  }
  return std::make_shared<ReferenceBackend>(variant, shape);
}

}  // namespace tilewise::attention
