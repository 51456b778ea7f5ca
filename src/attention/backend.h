// What stands behind a plan.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tilewise/attention.h"

namespace tilewise::attention {

/// A way to compute a planned shape. Constant and shared between threads.
class Backend : public std::enable_shared_from_this<Backend> {
 public:
  Backend(Variant variant, PlanShape shape) : variant_(std::move(variant)), shape_(std::move(shape)) {}
  virtual ~Backend() = default;

  virtual void forward(const ForwardInputs& inputs, const ForwardOutputs& outputs, Workspace& workspace) const = 0;
  virtual void backward(const ForwardInputs& inputs, const BackwardInputs& given, const BackwardOutputs& outputs,
                        Workspace& workspace) const = 0;
  virtual std::int64_t workspace_bytes() const = 0;
  virtual std::int64_t touched_bytes() const { return workspace_bytes(); }
  virtual std::string instruction_set() const = 0;

  /// Where workspaces of its calls lie.
  virtual Device device() const { return Device::cpu(); }

  /// Lines about the backend itself: "backend: ...".
  virtual std::string explain() const = 0;

  const Variant& variant() const { return variant_; }
  const PlanShape& shape() const { return shape_; }

  std::vector<std::string> refusals;  ///< Of backends that were asked before: "name: why".

 private:
  Variant variant_;
  PlanShape shape_;
};

/// Standard attention in float64. Throws Error(unsupported) with its reason for other dtypes.
std::shared_ptr<Backend> make_reference_backend(const Variant& variant, const PlanShape& shape);

/// The processor's kernels. Throws Error(unsupported) where none takes the shape; those it passed over say so in
/// `refusals`.
std::shared_ptr<Backend> make_cpu_backend(const Variant& variant, const PlanShape& shape, const Device& device);

/// A GPU's kernels. Throws Error(unsupported) where none takes the shape; Error(device) without a driver, a compiler or
/// that GPU.
std::shared_ptr<Backend> make_cuda_backend(const Variant& variant, const PlanShape& shape, const Device& device);

}  // namespace tilewise::attention
