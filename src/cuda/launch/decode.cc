#include "cuda/launch/decode.h"

#include <fmt/format.h>

#include <array>
#include <cstdlib>
#include <numeric>
#include <string_view>

#include "cuda/launch/early.h"
#include "cuda/launch/hopper_program.h"
#include "cuda/launch/kernel_text.h"
#include "cuda/launch/tensor_map.h"

namespace tilewise::cuda {
namespace {

constexpr const char* kSource = R"cuda(#include "variant.h"
{includes}

namespace tilewise::cuda {{

struct Config {{
  using Element = {element};
  static constexpr int kHeadQk = {d_qk}, kHeadV = {d_v}, kRows = {rows}, kKeys = {keys}, kStages = {stages};
  static constexpr int kScoreRowWarps = {score_row_warps}, kOutputRowWarps = {output_row_warps};
  static constexpr bool kHasLists = {has_lists}, kPaged = {is_paged}, kValuesInKeys = {values_in_keys};
  static constexpr bool kPagesOfSixteens = {pages_of_sixteens};
}};
using Kernel = {kernel}<Config, KernelVariant>;
static_assert(Kernel::kThreads == {threads} && Kernel::kSharedBytes == {shared_bytes}, "what the plan reckons with");

}}  // namespace tilewise::cuda

extern "C" __global__ void __launch_bounds__({threads}, {blocks})
    decode(const __grid_constant__ tilewise::cuda::{call} arguments,
           const __grid_constant__ variant::Arguments bound) {{
  tilewise::cuda::wait_for_kernels_before();
  tilewise::cuda::let_next_kernel_begin();
  extern __shared__ __align__(1024) unsigned char shared[];
  tilewise::cuda::Kernel(arguments, bound, shared).run();
}}
extern "C" __global__ void merge(const __grid_constant__ tilewise::cuda::DecodeArguments arguments,
                                 const __grid_constant__ variant::Arguments bound) {{
  tilewise::cuda::wait_for_kernels_before();
  tilewise::cuda::let_next_kernel_begin();
  tilewise::cuda::merge_splits<tilewise::cuda::Config, tilewise::cuda::KernelVariant>(arguments, bound);
}}
)cuda";

// As device/decode_rows.h has them.
constexpr unsigned kMergeThreads = 128;
constexpr std::int64_t kPartsOfOneWarp = 4;

/// What a plan's kernel is, and where.
struct KernelText {
  const char *includes, *kernel, *call;
};
KernelText kernel_of(const DecodePlan& plan) {
  if (plan.is_hopper) {
    return {"#include \"sm90_latent_decode.h\"\n#include \"sm90/wgmma_shapes.h\"", "sm90::LatentDecode",
            "sm90::LatentCall"};
  }
  if (plan.is_wide) return {"#include \"wide_decode.h\"", "WideDecode", "DecodeArguments"};
  return {"#include \"decode.h\"", "Decode", "DecodeArguments"};
}

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
  const KernelText kernel = kernel_of(plan);
  jit::Program program;
  program.name = "decode.cu";
  program.source =
      fmt::format(kSource, arg("includes", kernel.includes), arg("kernel", kernel.kernel), arg("call", kernel.call),
                  arg("rows", plan.rows), arg("keys", plan.keys), arg("score_row_warps", plan.score_row_warps()),
                  arg("output_row_warps", plan.output_row_warps()), arg("values_in_keys", plan.values_in_keys),
                  arg("element", element_name(shape.dtype)), arg("d_qk", shape.d_qk), arg("d_v", shape.d_v),
                  arg("stages", plan.stages), arg("has_lists", shape.has_lists), arg("is_paged", shape.is_paged),
                  arg("pages_of_sixteens", !plan.is_wide && shape.page_multiple == 16), arg("threads", plan.threads()),
                  arg("shared_bytes", plan.shared_bytes(shape)), arg("blocks", plan.blocks));
  program.headers = device_headers();
  program.headers.push_back(variant_header(variant, text));
  if (plan.is_hopper) program.headers.push_back(wgmma_shapes(shape.dtype, {plan.keys, 128}));
  program.options = {"--std=c++17"};
  program.architecture = architecture;
  program.kernels = {"decode", "merge"};
  return program;
}

bool decodes_by_wgmma(const jit::Context& context) {
  const char* const wanted = std::getenv("TILEWISE_GPU_FAMILY");
  const bool is_portable = wanted != nullptr && std::string_view(wanted) == "portable";
  return !is_portable && context.device().architecture().name() == "sm_90a" &&
         context.driver().api().tensor_map_encode != nullptr;
}

DecodeKernels::DecodeKernels(jit::Compiler& compiler, const std::shared_ptr<const jit::Context>& context,
                             const Variant& variant, const ForwardShape& shape, const DecodePlan& plan)
    : context_(context),
      shape_(shape),
      plan_(plan),
      slots_(slots(plan, context->device())),
      begins_early_(may_begin_early(*context)),
      text_(variant::cuda_text(variant)),
      module_(jit::load_program(compiler, decode_program(variant, text_, shape, plan, context->device().architecture()),
                                context)),
      decode_(module_->kernel("decode", static_cast<unsigned>(plan.shared_bytes(shape)))),
      merge_(module_->kernel("merge")) {}

std::int64_t DecodeKernels::partial_rows(const DecodePlan& plan, const jit::DeviceInfo& device,
                                         const ForwardExtent& extent) {
  return plan.rows * most_decode_parts(units(plan, extent), slots(plan, device));
}

sm90::LatentCall DecodeKernels::latent_call(const DecodeArguments& arguments, const ForwardExtent& extent) const {
  const ForwardArguments& forward = arguments.forward;
  const PageTable& pages = forward.pages;
  sm90::LatentCall call{};
  call.decode = arguments;
  call.box_rows = shape_.is_paged ? std::gcd(pages.page_tokens, plan_.keys) : plan_.keys;
  MappedTensor keys{shape_.dtype, forward.k,      forward.keys_packed ? 1 : extent.b,
                    extent.h_kv,  extent.kv_rows, shape_.d_qk};
  if (shape_.is_paged) keys.b = pages.pages, keys.rows = pages.page_tokens;
  call.k = tensor_map(*context_, keys, call.box_rows);
  return call;
}

bool DecodeKernels::is_better_apart(jit::StreamHandle stream) const {
  return !plan_.is_wide && plan_.blocks == 1 && context_->driver().is_captured(stream);
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
  sm90::LatentCall latent;
  std::array<void*, 2> decode_pointers = pointers;
  if (plan_.is_hopper) {
    latent = latent_call(all, extent);
    decode_pointers[0] = &latent;
  }
  const auto b = static_cast<unsigned>(extent.b);
  const bool begins_early = begins_early_ && !is_better_apart(stream);
  decode_.launch({.grid = {static_cast<unsigned>(all.splits),
                           static_cast<unsigned>(extent.h_kv) * static_cast<unsigned>(all.row_tiles), b},
                  .block = {static_cast<unsigned>(plan_.threads()), 1, 1},
                  .dynamic_shared_bytes = static_cast<unsigned>(plan_.shared_bytes(shape_)),
                  .stream = stream,
                  .begins_early = begins_early},
                 decode_pointers.data());
  if (all.splits == 1) return;
  const unsigned merged_together = shape_.d_v > 256 && all.splits <= kPartsOfOneWarp ? kMergeThreads / 32 : 1;
  const unsigned merging = (static_cast<unsigned>(all.h_q) + merged_together - 1) / merged_together;
  merge_.launch({.grid = {static_cast<unsigned>(all.s_q), merging, b},
                 .block = {kMergeThreads, 1, 1},
                 .stream = stream,
                 .begins_early = begins_early},
                pointers.data());
}

}  // namespace tilewise::cuda
