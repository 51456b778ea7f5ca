#include "cuda/launch/decode.h"

#include <fmt/format.h>

#include <array>

#include "cuda/launch/kernel_text.h"

namespace tilewise::cuda {
namespace {

constexpr const char* kSource = R"cuda(#include "variant.h"
{include}

namespace tilewise::cuda {{

struct Config {{
  using Element = {element};
  static constexpr int kHeadQk = {d_qk}, kHeadV = {d_v}, kRows = {rows}, kKeys = {keys}, kStages = {stages};
  static constexpr int kScoreRowWarps = {score_row_warps}, kOutputRowWarps = {output_row_warps};
  static constexpr bool kHasLists = {has_lists}, kPaged = {is_paged}, kValuesInKeys = {values_in_keys};
}};
using Kernel = {kernel}<Config, KernelVariant>;
static_assert(Kernel::kThreads == {threads} && Kernel::kSharedBytes == {shared_bytes}, "what the plan reckons with");

}}  // namespace tilewise::cuda

extern "C" __global__ void __launch_bounds__({threads}, {blocks})
    decode(const __grid_constant__ tilewise::cuda::DecodeArguments arguments,
           const __grid_constant__ variant::Arguments bound) {{
  extern __shared__ __align__(128) unsigned char shared[];
  tilewise::cuda::Kernel(arguments, bound, shared).run();
}}
extern "C" __global__ void merge(const __grid_constant__ tilewise::cuda::DecodeArguments arguments,
                                 const __grid_constant__ variant::Arguments bound) {{
  tilewise::cuda::merge_splits<tilewise::cuda::Config, tilewise::cuda::KernelVariant>(arguments, bound);
}}
)cuda";

constexpr unsigned kMergeThreads = 64;

/// Blocks that run at a time.
std::int64_t slots(const DecodePlan& plan, const jit::DeviceInfo& device) {
  return std::int64_t{device.multiprocessors} * plan.blocks;
}

std::int64_t units(const DecodePlan& plan, const ForwardExtent& extent) {
  return extent.b * extent.h_kv * decode_row_tiles(plan, extent.h_q / extent.h_kv, extent.s_q);
}

}  // namespace

jit::Program decode_program(const Variant& variant, const variant::CudaText& text, const ForwardShape& shape,
                            const DecodePlan& plan, const jit::Architecture& architecture) {
  validate_decode(shape);
  using fmt::arg;
  jit::Program program;
  program.name = "decode.cu";
  program.source =
      fmt::format(kSource, arg("include", plan.is_wide ? "#include \"wide_decode.h\"" : "#include \"decode.h\""),
                  arg("kernel", plan.is_wide ? "WideDecode" : "Decode"), arg("rows", plan.rows), arg("keys", plan.keys),
                  arg("score_row_warps", plan.score_row_warps()), arg("output_row_warps", plan.output_row_warps()),
                  arg("values_in_keys", plan.values_in_keys), arg("element", element_name(shape.dtype)),
                  arg("d_qk", shape.d_qk), arg("d_v", shape.d_v), arg("stages", plan.stages),
                  arg("has_lists", shape.has_lists), arg("is_paged", shape.is_paged), arg("threads", plan.threads()),
                  arg("shared_bytes", plan.shared_bytes(shape)), arg("blocks", plan.blocks));
  program.headers = device_headers();
  program.headers.push_back(variant_header(variant, text));
  program.options = {"--std=c++17"};
  program.architecture = architecture;
  program.kernels = {"decode", "merge"};
  return program;
}

DecodeKernels::DecodeKernels(jit::Compiler& compiler, const std::shared_ptr<const jit::Context>& context,
                             const Variant& variant, const ForwardShape& shape, const DecodePlan& plan)
    : shape_(shape),
      plan_(plan),
      slots_(slots(plan, context->device())),
      text_(variant::cuda_text(variant)),
      module_(jit::load_program(compiler, decode_program(variant, text_, shape, plan, context->device().architecture()),
                                context)),
      decode_(module_->kernel("decode", static_cast<unsigned>(plan.shared_bytes(shape)))),
      merge_(module_->kernel("merge")) {}

std::int64_t DecodeKernels::partial_rows(const DecodePlan& plan, const jit::DeviceInfo& device,
                                         const ForwardExtent& extent) {
  return plan.rows * most_decode_parts(units(plan, extent), slots(plan, device));
}

void DecodeKernels::launch(const ForwardArguments& arguments, const SequenceShape& alike, float* partial_o,
                           float* partial_lse, const std::vector<std::byte>& bound, const ForwardExtent& extent,
                           jit::StreamHandle stream) const {
  if (extent.b == 0 || extent.s_q == 0) return;
  DecodeArguments all{};
  all.forward = arguments, all.alike = alike;
  all.o = partial_o, all.lse = partial_lse;
  all.splits = static_cast<int>(decode_splits(units(plan_, extent), slots_, extent.s_kv, plan_.keys));
  all.s_q = static_cast<int>(extent.s_q);
  all.h_q = static_cast<int>(extent.h_q);
  all.row_tiles = static_cast<int>(decode_row_tiles(plan_, extent.h_q / extent.h_kv, extent.s_q));
  // The driver copies from these pointers and does not write through them.
  std::array<void*, 2> pointers = {&all, const_cast<std::byte*>(bound.data())};
  const auto b = static_cast<unsigned>(extent.b);
  decode_.launch({.grid = {static_cast<unsigned>(all.splits),
                           static_cast<unsigned>(extent.h_kv) * static_cast<unsigned>(all.row_tiles), b},
                  .block = {static_cast<unsigned>(plan_.threads()), 1, 1},
                  .dynamic_shared_bytes = static_cast<unsigned>(plan_.shared_bytes(shape_)),
                  .stream = stream},
                 pointers.data());
  if (all.splits == 1) return;
  merge_.launch({.grid = {static_cast<unsigned>(all.s_q), static_cast<unsigned>(all.h_q), b},
                 .block = {kMergeThreads, 1, 1},
                 .stream = stream},
                pointers.data());
}

}  // namespace tilewise::cuda
