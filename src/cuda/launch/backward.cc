#include "cuda/launch/backward.h"

#include <fmt/format.h>

#include <array>
#include <span>

#include "core/fail.h"
#include "core/round_up.h"
#include "cuda/launch/choice.h"
#include "cuda/launch/early.h"
#include "cuda/launch/kernel_text.h"

namespace tilewise::cuda {
namespace {

constexpr const char* kSource = R"cuda(#include "variant.h"
#include "backward.h"

namespace tilewise::cuda {{

struct Config {{
  using Element = {element};
  static constexpr int kHeadQk = {d_qk}, kHeadV = {d_v};
  static constexpr int kQueries = {queries}, kKeys = {keys}, kWarps = {warps}, kStages = {stages};
  static constexpr int kScoreColumns = {score_columns}, kColumnWarps = {column_warps};
  static constexpr bool kHasLists = {has_lists}, kHasDropout = {has_dropout}, kAligned = {is_aligned};
  static constexpr bool kHasGradients = {has_gradients}, kIsDeterministic = {is_deterministic};
}};
using Kernel = Backward<Config, KernelVariant>;
static_assert(Kernel::kThreads == {threads} && Kernel::kSharedBytes == {shared_bytes}, "what the plan reckons with");

}}  // namespace tilewise::cuda

extern "C" __global__ void __launch_bounds__({threads}, {blocks})
    backward(const __grid_constant__ tilewise::cuda::BackwardArguments arguments,
             const __grid_constant__ variant::Arguments bound) {{
  extern __shared__ __align__(128) unsigned char shared[];
  tilewise::cuda::Kernel(arguments, bound, static_cast<unsigned>(__cvta_generic_to_shared(shared))).run();
}}
extern "C" __global__ void prepare(const __grid_constant__ tilewise::cuda::BackwardArguments arguments,
                                   const __grid_constant__ variant::Arguments bound) {{
  tilewise::cuda::prepare_backward<tilewise::cuda::Config, tilewise::cuda::KernelVariant>(arguments, bound);
}}
extern "C" __global__ void finish(const __grid_constant__ tilewise::cuda::BackwardArguments arguments) {{
  tilewise::cuda::finish_backward<tilewise::cuda::Config>(arguments);
}}
)cuda";

}  // namespace

jit::Program backward_program(const Variant& variant, const variant::CudaText& text, const ForwardShape& shape,
                              const BackwardPlan& plan, const jit::Architecture& architecture) {
  validate(shape);
  using fmt::arg;
  jit::Program program;
  program.name = "backward.cu";
  program.source = fmt::format(
      kSource, arg("element", element_name(shape.dtype)), arg("d_qk", shape.d_qk), arg("d_v", shape.d_v),
      arg("queries", plan.queries), arg("keys", plan.keys), arg("warps", plan.warps), arg("stages", plan.stages),
      arg("score_columns", plan.score_columns), arg("column_warps", plan.column_warps),
      arg("has_lists", shape.has_lists), arg("has_dropout", shape.has_dropout),
      arg("has_gradients", shape.has_gradients), arg("is_deterministic", shape.is_deterministic),
      arg("is_aligned", shape.is_aligned), arg("threads", plan.threads()), arg("blocks", plan.blocks),
      arg("shared_bytes", plan.shared_bytes(shape)));
  program.headers = device_headers();
  program.headers.push_back(shape.has_gradients ? gradients_header(variant, text) : variant_header(variant, text));
  program.options = {"--std=c++17"};
  program.architecture = architecture;
  program.kernels = {"prepare", "backward", "finish"};
  return program;
}

BackwardPlan BackwardKernels::plan_of(const jit::Context& context, const Variant& variant, const ForwardShape& shape) {
  const bool has_scores = changes_scores(variant);
  return chosen(context.device(), "backward", shape, has_scores,
                backward_candidates(shape, has_scores, limits_of(context.device()), kept_fields(variant, shape.dtype)));
}

BackwardKernels::BackwardKernels(jit::Compiler& compiler, std::shared_ptr<const jit::Context> context,
                                 const Variant& variant, const ForwardShape& shape)
    : BackwardKernels(compiler, context, variant, shape, plan_of(*context, variant, shape)) {}

BackwardKernels::BackwardKernels(jit::Compiler& compiler, std::shared_ptr<const jit::Context> context,
                                 const Variant& variant, const ForwardShape& shape, const BackwardPlan& plan)
    : shape_(shape),
      plan_(plan),
      text_(kernel_text(variant, shape.dtype, true)),
      module_(jit::load_program(
          compiler, backward_program(variant, text_, shape, plan, context->device().architecture()), context)),
      prepare_(module_->kernel("prepare")),
      backward_(module_->kernel("backward", static_cast<unsigned>(plan_.shared_bytes(shape)))),
      finish_(module_->kernel("finish")),
      begins_early_(may_begin_early(*context)) {}

void BackwardKernels::launch(const BackwardArguments& arguments, const std::vector<std::byte>& bound,
                             const ForwardExtent& extent, jit::KernelChain& chain, jit::StreamHandle stream) const {
  constexpr std::int64_t kWarps = 4;  // of a block
  const auto along = [](std::int64_t size, std::int64_t tile) { return static_cast<unsigned>(ceil_div(size, tile)); };
  if (extent.b == 0) return;
  BackwardArguments all = arguments;
  const unsigned key_tiles = along(extent.s_kv, plan_.keys);
  all.key_tiles = static_cast<int>(key_tiles);
  all.d_q_parts = std::max(arguments.d_q_parts, 1);
  const bool has_parts = arguments.d_q_parts > 0;
  const std::int64_t queries = d_q_rows(arguments.s_q);
  all.d_q_part = has_parts ? extent.b * extent.h_q * queries * shape_.d_qk : 0;
  const auto rows = [&](std::int64_t warps) {
    return jit::LaunchShape{
        .grid = {along(warps, kWarps), static_cast<unsigned>(arguments.h_q), static_cast<unsigned>(extent.b)},
        .block = {32 * kWarps, 1, 1}};
  };
  const unsigned blocks = has_parts ? std::min(key_tiles, static_cast<unsigned>(all.d_q_parts)) : key_tiles;
  const jit::LaunchShape tiles{.grid = {blocks, static_cast<unsigned>(extent.h_kv), static_cast<unsigned>(extent.b)},
                               .block = {static_cast<unsigned>(plan_.threads()), 1, 1},
                               .dynamic_shared_bytes = static_cast<unsigned>(plan_.shared_bytes(shape_)),
                               .begins_early = begins_early_ && arguments.s_q > 0};  // behind what prepares
  // The driver copies from these pointers and does not write through them.
  std::array<void*, 2> pointers = {&all, const_cast<std::byte*>(bound.data())};
  std::array<jit::ChainLink, 3> links;
  std::size_t count = 0;
  if (arguments.s_q > 0) links[count++] = {&prepare_, rows(queries / 8), pointers.data()};
  if (extent.s_kv > 0) links[count++] = {&backward_, tiles, pointers.data()};
  if (arguments.s_q > 0 && arguments.d_q.data != nullptr) {
    jit::LaunchShape rounded = rows(queries / 16);
    rounded.begins_early = begins_early_;
    links[count++] = {&finish_, rounded, pointers.data()};
  }
  chain.launch(std::span(links).first(count), stream);
}

}  // namespace tilewise::cuda
