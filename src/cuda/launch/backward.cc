#include "cuda/launch/backward.h"

#include <fmt/format.h>

#include <array>

#include "core/fail.h"
#include "cuda/launch/kernel_text.h"

namespace tilewise::cuda {
namespace {

constexpr const char* kSource = R"cuda(#include "variant.h"
#include "backward.h"

namespace tilewise::cuda {{

struct Config {{
  using Element = {element};
  static constexpr int kHeadQk = {d_qk}, kHeadV = {d_v};
  static constexpr bool kHasLists = {has_lists}, kHasDropout = {has_dropout}, kAligned = {is_aligned};
}};
using Kernel = Backward<Config, KernelVariant>;
static_assert(Kernel::kThreads == {threads} && Kernel::kSharedBytes == {shared_bytes}, "what the plan reckons with");

}}  // namespace tilewise::cuda

extern "C" __global__ void __launch_bounds__({threads})
    backward(const __grid_constant__ tilewise::cuda::BackwardArguments arguments,
             const __grid_constant__ variant::Arguments bound) {{
  extern __shared__ __align__(128) unsigned char shared[];
  tilewise::cuda::Kernel(arguments, bound, static_cast<unsigned>(__cvta_generic_to_shared(shared))).run();
}}
extern "C" __global__ void prepare(const __grid_constant__ tilewise::cuda::BackwardArguments arguments) {{
  tilewise::cuda::prepare_backward<tilewise::cuda::Config>(arguments);
}}
extern "C" __global__ void finish(const __grid_constant__ tilewise::cuda::BackwardArguments arguments) {{
  tilewise::cuda::finish_backward<tilewise::cuda::Config>(arguments);
}}
)cuda";

}  // namespace

jit::Program backward_program(const Variant& variant, const variant::CudaText& text, const ForwardShape& shape,
                              const jit::Architecture& architecture) {
  validate_backward(shape);
  using fmt::arg;
  const BackwardPlan plan;
  jit::Program program;
  program.name = "backward.cu";
  program.source = fmt::format(kSource, arg("element", shape.dtype == DType::bfloat16 ? "BFloat16" : "Float16"),
                               arg("d_qk", shape.d_qk), arg("d_v", shape.d_v), arg("has_lists", shape.has_lists),
                               arg("has_dropout", shape.has_dropout), arg("is_aligned", shape.is_aligned),
                               arg("threads", plan.threads()), arg("shared_bytes", plan.shared_bytes(shape)));
  program.headers = device_headers();
  program.headers.push_back(variant_header(variant, text));
  program.options = {"--std=c++17"};
  program.architecture = architecture;
  program.kernels = {"prepare", "backward", "finish"};
  return program;
}

namespace {

/// Throws unless this GPU's blocks have the shared memory for the shape.
void expect_room(const ForwardShape& shape, const jit::DeviceInfo& device) {
  validate_backward(shape);
  const std::int64_t needed = BackwardPlan().shared_bytes(shape);
  if (needed > device.shared_bytes_per_block) {
    fail(ErrorCode::unsupported,
         "the backward kernel for d_qk = {} and d_v = {} needs {} bytes of shared memory a block, and {} has {}",
         shape.d_qk, shape.d_v, needed, device.name, device.shared_bytes_per_block);
  }
}

}  // namespace

BackwardKernels::BackwardKernels(jit::Compiler& compiler, std::shared_ptr<const jit::Context> context,
                                 const Variant& variant, const ForwardShape& shape)
    : context_(std::move(context)), shape_(shape), text_(variant::cuda_text(variant, true)) {
  const std::string elsewhere = why_not_hopper(*context_);
  const std::string refusal = elsewhere.empty() ? hopper_backward_refusal(shape) : elsewhere;
  if (refusal.empty()) {
    make(compiler, variant, hopper_backward_candidates(shape, limits_of(context_->device())).front());
  } else {
    make(compiler, variant, BackwardPlan());
    if (context_->device().compute_capability_major == 9) explanation_ += "; not the kernel for 9.0: " + refusal;
  }
}

BackwardKernels::BackwardKernels(jit::Compiler& compiler, std::shared_ptr<const jit::Context> context,
                                 const Variant& variant, const ForwardShape& shape, const BackwardPlan& plan)
    : context_(std::move(context)), shape_(shape), text_(variant::cuda_text(variant, true)) {
  make(compiler, variant, plan);
}

BackwardKernels::BackwardKernels(jit::Compiler& compiler, std::shared_ptr<const jit::Context> context,
                                 const Variant& variant, const ForwardShape& shape, const HopperBackwardPlan& plan)
    : context_(std::move(context)), shape_(shape), text_(variant::cuda_text(variant, true)) {
  make(compiler, variant, plan);
}

void BackwardKernels::make(jit::Compiler& compiler, const Variant& variant, const BackwardPlan& plan) {
  expect_room(shape_, context_->device());
  tile_sizes_ = {BackwardPlan::kQueries, BackwardPlan::kKeys};
  explanation_ = fmt::format("{} x {}", BackwardPlan::kQueries, BackwardPlan::kKeys);
  const auto module = jit::load_program(
      compiler, backward_program(variant, text_, shape_, context_->device().architecture()), context_);
  portable_ = {module, module->kernel("prepare"),
               module->kernel("backward", static_cast<unsigned>(plan.shared_bytes(shape_))), module->kernel("finish")};
}

void BackwardKernels::make(jit::Compiler& compiler, const Variant& variant, const HopperBackwardPlan& plan) {
  tile_sizes_ = {HopperBackwardPlan::kQueries, HopperBackwardPlan::kKeys};
  explanation_ = plan.text();
  hopper_ = std::make_unique<HopperBackwardKernels>(compiler, context_, variant, text_, shape_, plan);
}

void BackwardKernels::launch(const BackwardArguments& arguments, const std::vector<std::byte>& bound,
                             const ForwardExtent& extent, jit::StreamHandle stream) const {
  if (hopper_ != nullptr) return hopper_->launch(arguments, bound, extent, stream);
  constexpr unsigned kRowsOfBlock = 4;  // a warp to a query
  const auto along = [](std::int64_t size, std::int64_t tile) {
    return static_cast<unsigned>((size + tile - 1) / tile);
  };
  const auto b = static_cast<unsigned>(extent.b);
  if (b == 0) return;
  const BackwardPlan plan;
  const jit::LaunchShape rows{.grid = {along(arguments.s_q, kRowsOfBlock), static_cast<unsigned>(arguments.h_q), b},
                              .block = {32 * kRowsOfBlock, 1, 1},
                              .stream = stream};
  const jit::LaunchShape tiles{.grid = {along(extent.s_kv, BackwardPlan::kKeys),
                                        static_cast<unsigned>(arguments.h_q / arguments.heads_per_kv), b},
                               .block = {static_cast<unsigned>(plan.threads()), 1, 1},
                               .dynamic_shared_bytes = static_cast<unsigned>(plan.shared_bytes(shape_)),
                               .stream = stream};
  // The driver copies from these pointers and does not write through them.
  std::array<void*, 2> pointers = {const_cast<BackwardArguments*>(&arguments), const_cast<std::byte*>(bound.data())};
  if (arguments.s_q > 0) portable_->prepare.launch(rows, pointers.data());
  if (extent.s_kv > 0) portable_->backward.launch(tiles, pointers.data());
  if (arguments.s_q > 0) portable_->finish.launch(rows, pointers.data());
}

}  // namespace tilewise::cuda
