// Calls of plans with copies of the host's tensors on a GPU.
#pragma once

#include <memory>
#include <vector>

#include "cuda/launch/device_memory.h"
#include "tests/attention/oracle.h"

namespace tilewise::attention::testing {

/// Copies of tensors on a GPU, laid out as on the host.
class GpuCopies {
 public:
  explicit GpuCopies(std::shared_ptr<const jit::Context> context) : context_(std::move(context)) {}

  ConstTensor in(const ConstTensor& tensor);
  std::optional<ConstTensor> in(const std::optional<ConstTensor>& tensor);

  /// A tensor that is written: what lies between its elements is copied there too, and back by copy_back().
  Tensor out(const Tensor& tensor);
  std::optional<Tensor> out(const std::optional<Tensor>& tensor);

  ForwardInputs in(const ForwardInputs& inputs);

  /// Waits for the GPU and copies all that it wrote.
  void copy_back();

 private:
  struct Output {
    std::size_t memory;  // its place in memory_
    void* host;
    std::size_t bytes;
  };
  std::byte* copy(const void* data, std::size_t bytes);

  std::shared_ptr<const jit::Context> context_;
  std::vector<cuda::DeviceMemory> memory_;
  std::vector<Output> outputs_;
};

/// Workspaces are full of NaN and have more of them behind, which stay.
class GpuCaller final : public Caller {
 public:
  explicit GpuCaller(std::shared_ptr<const jit::Context> context) : context_(std::move(context)) {}
  Device device() const override { return Device::cuda(context_->device().ordinal); }
  void forward(const Plan& plan, const ForwardInputs& inputs, const ForwardOutputs& outputs) override;
  void backward(const Plan& plan, const ForwardInputs& inputs, const BackwardInputs& given,
                const BackwardOutputs& outputs) override;

 private:
  template <class Call>
  void in_garbage(const Plan& plan, Call call);

  std::shared_ptr<const jit::Context> context_;
};

}  // namespace tilewise::attention::testing
