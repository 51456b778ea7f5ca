#include "cuda/launch/forward_program.h"

#include <fmt/format.h>

#include "cuda/launch/kernel_text.h"

namespace tilewise::cuda {
namespace {

constexpr const char* kSource = R"cuda(#include "variant.h"
#include "forward.h"

namespace tilewise::cuda {{

struct Config {{
  using Element = {element};
  static constexpr int kHeadQk = {d_qk}, kHeadV = {d_v};
  static constexpr int kWarps = {warps}, kRowBlocks = {row_blocks};
  static constexpr int kKeyTile = {key_tile}, kStages = {stages};
  static constexpr bool kQueryInRegisters = {query_in_registers};
  static constexpr bool kHasLists = {has_lists}, kHasDropout = {has_dropout}, kHasMaxScore = {has_max_score};
  static constexpr bool kPaged = {is_paged}, kAligned = {is_aligned};
}};
using Kernel = Forward<Config, KernelVariant>;
static_assert(Kernel::kThreads == {threads} && Kernel::kSharedBytes == {shared_bytes} &&
                  Kernel::kPartQueries == {part_queries},
              "what the plan reckons with");

}}  // namespace tilewise::cuda

extern "C" __global__ void __launch_bounds__({threads}, {blocks})
    forward(const __grid_constant__ tilewise::cuda::ForwardArguments arguments,
            const __grid_constant__ variant::Arguments bound) {{
  tilewise::cuda::wait_for_kernels_before();
  tilewise::cuda::let_next_kernel_begin();
  extern __shared__ __align__(128) unsigned char shared[];
  tilewise::cuda::Kernel(arguments, bound, static_cast<unsigned>(__cvta_generic_to_shared(shared))).run();
}}
extern "C" __global__ void merge(const __grid_constant__ tilewise::cuda::ForwardArguments arguments,
                                 const __grid_constant__ variant::Arguments bound) {{
  tilewise::cuda::wait_for_kernels_before();
  tilewise::cuda::let_next_kernel_begin();
  tilewise::cuda::merge_rows<tilewise::cuda::Kernel, tilewise::cuda::Config, tilewise::cuda::KernelVariant>(arguments,
                                                                                                           bound);
}}
)cuda";

}  // namespace

jit::Program forward_program(const Variant& variant, const variant::CudaText& text, const ForwardShape& shape,
                             const ForwardPlan& plan, const jit::Architecture& architecture) {
  validate(shape);
  using fmt::arg;
  jit::Program program;
  program.name = "forward.cu";
  program.source = fmt::format(kSource, arg("element", element_name(shape.dtype)), arg("d_qk", shape.d_qk),
                               arg("d_v", shape.d_v), arg("warps", plan.warps), arg("row_blocks", plan.row_blocks),
                               arg("key_tile", plan.key_tile), arg("stages", plan.stages),
                               arg("query_in_registers", plan.query_in_registers), arg("has_lists", shape.has_lists),
                               arg("has_dropout", shape.has_dropout), arg("has_max_score", shape.has_max_score),
                               arg("is_paged", shape.is_paged), arg("is_aligned", shape.is_aligned),
                               arg("threads", plan.threads()), arg("shared_bytes", plan.shared_bytes(shape)),
                               arg("part_queries", plan.tile().part_queries), arg("blocks", plan.blocks));
  program.headers = device_headers();
  program.headers.push_back(variant_header(variant, text));
  program.options = {"--std=c++17"};
  program.architecture = architecture;
  program.kernels = {"forward", "merge"};
  return program;
}

}  // namespace tilewise::cuda
