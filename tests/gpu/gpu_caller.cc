#include "tests/gpu/gpu_caller.h"

#include <algorithm>

namespace tilewise::attention::testing {
namespace {

/// Bytes from a tensor's first element to behind its last; strides are 0 or more in these tests.
std::size_t span_of(const ConstTensor& tensor) {
  if (tensor.elements() == 0) return 0;
  std::int64_t last = 0;
  for (std::size_t axis = 0; axis < static_cast<std::size_t>(tensor.rank); ++axis)
    last += (tensor.extents[axis] - 1) * tensor.strides[axis];
  return static_cast<std::size_t>((last + 1) * size_of(tensor.dtype));
}

}  // namespace

std::byte* GpuCopies::copy(const void* data, std::size_t bytes) {
  memory_.emplace_back(context_, bytes);
  memory_.back().copy_from({static_cast<const std::byte*>(data), bytes});
  return memory_.back().as<std::byte>();
}

ConstTensor GpuCopies::in(const ConstTensor& tensor) {
  ConstTensor copied = tensor;
  copied.data = copy(tensor.data, span_of(tensor));
  return copied;
}

std::optional<ConstTensor> GpuCopies::in(const std::optional<ConstTensor>& tensor) {
  return tensor ? std::optional(in(*tensor)) : std::nullopt;
}

Tensor GpuCopies::out(const Tensor& tensor) {
  Tensor copied = tensor;
  const std::size_t bytes = span_of(tensor);
  copied.data = copy(tensor.data, bytes);
  outputs_.push_back({memory_.size() - 1, tensor.data, bytes});
  return copied;
}

std::optional<Tensor> GpuCopies::out(const std::optional<Tensor>& tensor) {
  return tensor ? std::optional(out(*tensor)) : std::nullopt;
}

ForwardInputs GpuCopies::in(const ForwardInputs& inputs) {
  ForwardInputs copied = inputs;
  copied.q = in(inputs.q), copied.k = in(inputs.k), copied.v = in(inputs.v);
  copied.block_table = in(inputs.block_table);
  for (TableBinding& binding : copied.tables) binding.data = in(binding.data);
  return copied;
}

void GpuCopies::copy_back() {
  const jit::CurrentContext current(*context_);
  const jit::Driver& driver = context_->driver();
  driver.check(driver.api().stream_synchronize(nullptr), "to run a kernel");
  for (const Output& output : outputs_) {
    if (output.bytes == 0) continue;
    driver.check(driver.api().copy_to_host(output.host, memory_[output.memory].pointer(), output.bytes),
                 "to copy from the GPU");
  }
}

template <class Call>
void GpuCaller::in_garbage(const Plan& plan, Call call) {
  constexpr std::size_t kBehind = 256;
  const auto bytes = static_cast<std::size_t>(plan.workspace_bytes());
  const auto memory = cuda::DeviceMemory::of(context_, std::vector<std::byte>(bytes + kBehind, std::byte{0xff}));
  Workspace workspace({memory.as<std::byte>(), bytes}, device());
  call(workspace);
  std::vector<std::byte> behind(kBehind);
  const jit::CurrentContext current(*context_);
  context_->driver().check(context_->driver().api().copy_to_host(behind.data(), memory.pointer() + bytes, kBehind),
                           "to copy from the GPU");
  EXPECT_TRUE(std::ranges::all_of(behind, [](std::byte byte) { return byte == std::byte{0xff}; }))
      << "written behind the workspace";
}

void GpuCaller::forward(const Plan& plan, const ForwardInputs& inputs, const ForwardOutputs& outputs) {
  in_garbage(plan, [&](Workspace& workspace) {
    GpuCopies copies(context_);
    const ForwardInputs given = copies.in(inputs);
    const ForwardOutputs wanted{
        .o = copies.out(outputs.o), .lse = copies.out(outputs.lse), .max_score = copies.out(outputs.max_score)};
    plan.forward(given, wanted, workspace);
    copies.copy_back();
  });
}

void GpuCaller::backward(const Plan& plan, const ForwardInputs& inputs, const BackwardInputs& given,
                         const BackwardOutputs& outputs) {
  in_garbage(plan, [&](Workspace& workspace) {
    GpuCopies copies(context_);
    const BackwardInputs copied{.o = copies.in(given.o),
                                .lse = copies.in(given.lse),
                                .d_o = copies.in(given.d_o),
                                .d_lse = copies.in(given.d_lse)};
    BackwardOutputs wanted{.d_q = copies.out(outputs.d_q),
                           .d_k = copies.out(outputs.d_k),
                           .d_v = copies.out(outputs.d_v),
                           .d_tables = outputs.d_tables,
                           .d_parameters = outputs.d_parameters};
    for (TableGradientBinding& binding : wanted.d_tables) binding.gradient = copies.out(binding.gradient);
    for (ParameterGradientBinding& binding : wanted.d_parameters) binding.gradient = copies.out(binding.gradient);
    plan.backward(copies.in(inputs), copied, wanted, workspace);
    copies.copy_back();
  });
}

}  // namespace tilewise::attention::testing
