#include "cuda/launch/hopper_program.h"

#include <fmt/format.h>

#include <algorithm>

#include "cuda/launch/kernel_text.h"
#include "variant/hoist.h"

namespace tilewise::cuda {
namespace {

// What the sources begin with; a product's text comes after what declares it.
std::string includes(const char* kernel) {
  std::string text;
  for (const char* name : {"variant.h", kernel, "sm90/wgmma_shapes.h"}) text += fmt::format("#include \"{}\"\n", name);
  return text;
}

constexpr const char* kForwardSource = R"cuda(
namespace tilewise::cuda {{

struct Config {{
  using Element = {element};
  using OutputElement = {output_element};
  static constexpr int kHeadQk = {d_qk}, kHeadV = {d_v};
  static constexpr int kConsumers = {consumers}, kKeyTile = {key_tile}, kStages = {stages};
  static constexpr int kQueryStages = {query_stages};
  static constexpr bool kStagesOutput = {stages_output};
  static constexpr bool kQueryInRegisters = {query_in_registers};
  static constexpr int kPolynomials = {polynomials};
  static constexpr bool kTakesTurns = {takes_turns};
  static constexpr int kProducerRegisters = {producer_registers}, kConsumerRegisters = {consumer_registers};
  static constexpr bool kHasLists = {has_lists}, kHasDropout = {has_dropout}, kIsPaged = {is_paged};
  static constexpr bool kEndsWithQueries = {ends_with_queries};
}};
using Kernel = sm90::{kernel}<Config, KernelVariant>;
static_assert(Kernel::kThreads == {threads} && Kernel::kTileBytes == {tile_bytes} &&
                  Kernel::kSharedBytes <= {shared_bytes}, "what the plan reckons with");

}}  // namespace tilewise::cuda

extern "C" __global__ void __launch_bounds__({threads}, 1)
    forward(const __grid_constant__ tilewise::cuda::sm90::ForwardCall call,
            const __grid_constant__ variant::Arguments bound) {{
  extern __shared__ __align__(1024) unsigned char shared[];
  tilewise::cuda::Kernel(call, bound, shared).run();
}}
)cuda";

// Behind it, where q, k and v are float8_e4m3.
constexpr const char* kFloat8ValuesSource = R"cuda(
extern "C" __global__ void __launch_bounds__(256)
    transpose_values(const __grid_constant__ tilewise::cuda::sm90::ForwardCall call) {
  using Values = tilewise::cuda::sm90::Float8Values<tilewise::cuda::Config::kHeadV>;
  __shared__ __align__(16) unsigned shared[Values::kSharedBytes / 4];
  Values{call.arguments, shared}.run();
}
)cuda";

constexpr const char* kBackwardSource = R"cuda(
namespace tilewise::cuda {{

struct Config {{
  using Element = {element};
  static constexpr int kHeadQk = {d_qk}, kHeadV = {d_v}, kStages = {stages};
  static constexpr int kProducerRegisters = {producer_registers}, kConsumerRegisters = {consumer_registers};
  static constexpr bool kHasLists = {has_lists}, kHasLongRows = {has_long_rows}, kHasDropout = {has_dropout};
  static constexpr bool kIsOrdered = {is_ordered}, kHasGradients = {has_gradients}, kIsPaired = {is_paired};
  static constexpr bool kCountsAdded = {counts_added};
}};
using Kernel = sm90::Backward<Config, KernelVariant>;
static_assert(Kernel::kThreads == {threads} && Kernel::kTileBytes == {tile_bytes} &&
                  Kernel::kSharedBytes <= {shared_bytes}, "what the plan reckons with");

}}  // namespace tilewise::cuda

extern "C" __global__ void __launch_bounds__({threads}, 1)
    backward(const __grid_constant__ tilewise::cuda::sm90::BackwardCall call,
             const __grid_constant__ variant::Arguments bound) {{
  extern __shared__ __align__(1024) unsigned char shared[];
  tilewise::cuda::Kernel(call, bound, shared).run();
}}
extern "C" __global__ void __launch_bounds__(256)
    prepare(const __grid_constant__ tilewise::cuda::sm90::BackwardCall call,
            const __grid_constant__ variant::Arguments bound) {{
  tilewise::cuda::let_next_kernel_begin();
  tilewise::cuda::sm90::prepare_backward<tilewise::cuda::Config, tilewise::cuda::KernelVariant>(call, bound);
}}
extern "C" __global__ void __launch_bounds__(256)
    finish(const __grid_constant__ tilewise::cuda::sm90::BackwardCall call) {{
  tilewise::cuda::sm90::finish_backward<tilewise::cuda::Config>(call);
}}
)cuda";

/// "%first, ..., %(first + count - 1)".
std::string placeholders(int first, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += fmt::format("{}%{}", i == 0 ? "" : ", ", first + i);
  return text;
}

/// The instruction for an element.
struct Instruction {
  const char* element;  // as device/element.h calls it
  const char* type;
  int depth;
  bool may_transpose;  // immediates say which operands are read along columns; float8_e4m3 never is
};
Instruction instruction_of(DType dtype) {
  if (dtype == DType::float8_e4m3) return {"Float8E4m3", "e4m3", 32, false};
  if (dtype == DType::bfloat16) return {"BFloat16", "bf16", 16, true};
  return {"Float16", "f16", 16, true};
}

/// One instruction as a function: `a_in_registers` says where A comes from.
std::string product_function(const char* name, const Instruction& instruction, int columns, bool a_in_registers) {
  const int sums = columns / 2, a_operands = a_in_registers ? 4 : 1, b = sums + a_operands;
  std::string results;
  for (int i = 0; i < sums; ++i) results += fmt::format("{}\"+f\"(d[{}][{}])", i == 0 ? "" : ", ", i / 4, i % 4);
  const std::string a_text = a_in_registers ? "{" + placeholders(sums, 4) + "}" : fmt::format("%{}", sums);
  const char* a_inputs = a_in_registers ? R"("r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]))" : R"("l"(a))";
  // Immediates: factors of a and b, then (of an A in shared memory) whether a, and whether b, is transposed.
  std::string transposed = a_in_registers ? fmt::format(", %{}", b + 2) : fmt::format(", %{}, %{}", b + 2, b + 3);
  std::string immediates = fmt::format(", {}\"n\"(kTransposedB)", a_in_registers ? "" : "\"n\"(kTransposedA), ");
  if (!instruction.may_transpose) transposed = immediates = "";
  return fmt::format(
      "  template <{}int kTransposedB>\n"
      "  __device__ static void {}(float (&d)[{}][4], {}, unsigned long long b, bool add) {{\n"
      "    asm volatile(\"{{\\n.reg .pred p;\\nsetp.ne.b32 p, %{}, 0;\\n\"\n"
      "        \"wgmma.mma_async.sync.aligned.m64n{}k{}.f32.{}.{} {{{}}}, {}, %{}, p, 1, 1{};\\n}}\"\n"
      "        : {}\n        : {}, \"l\"(b), \"r\"(int(add)){});\n  }}\n",
      a_in_registers ? "" : "int kTransposedA, ", name, columns / 8,
      a_in_registers ? "const unsigned (&a)[4]" : "unsigned long long a", b + 1, columns, instruction.depth,
      instruction.type, instruction.type, placeholders(0, sums), a_text, b, transposed, results, a_inputs, immediates);
}

}  // namespace

jit::Header wgmma_shapes(DType dtype, std::vector<int> columns) {
  std::sort(columns.begin(), columns.end());
  columns.erase(std::unique(columns.begin(), columns.end()), columns.end());
  const Instruction instruction = instruction_of(dtype);
  std::string text =
      "// wgmma.mma_async: d (+)= a b of 64 rows and a depth of 32 bytes.\n#pragma once\n#include \"sm90/wgmma.h\"\n\n"
      "namespace tilewise::cuda::sm90 {\n";
  for (const int count : columns) {
    text += fmt::format("\ntemplate <>\nstruct Product<{}, {}> {{\n{}{}}};\n", instruction.element, count,
                        product_function("from_registers", instruction, count, true),
                        product_function("from_shared", instruction, count, false));
  }
  return {"sm90/wgmma_shapes.h", text + "\n}  // namespace tilewise::cuda::sm90\n"};
}

variant::CudaText hopper_text(const Variant& variant, const ForwardShape& shape, bool backward) {
  const DType dtype = shape.dtype == DType::float8_e4m3 ? DType::bfloat16 : shape.dtype;  // what is approximate enough
  return variant::rearranged_cuda_text(variant, dtype, backward);
}

ScoreWork score_work(const Variant& variant, const variant::CudaText& text) {
  const auto fields = [&](variant::Hoist hoist) { return text.fields[static_cast<std::size_t>(hoist)]; };
  if (!changes_scores(variant)) return {.mask_follows_diagonals = text.follows_diagonals};
  return {true, text.special_functions, fields(variant::Hoist::key) > 0 || fields(variant::Hoist::diagonal) > 0,
          text.is_long(), text.follows_diagonals};
}

jit::Program hopper_forward_program(const Variant& variant, const variant::CudaText& text, const ForwardShape& shape,
                                    const HopperForwardPlan& plan, const jit::Architecture& architecture) {
  using fmt::arg;
  jit::Program program;
  program.name = "forward.cu";
  const bool is_float8 = shape.dtype == DType::float8_e4m3;
  const ScoreWork scores = score_work(variant, text);
  program.source =
      includes(is_float8 ? "sm90/forward_float8.h" : "sm90/forward.h") +
      fmt::format(
          kForwardSource, arg("element", instruction_of(shape.dtype).element),
          arg("output_element", instruction_of(is_float8 ? shape.o_dtype : shape.dtype).element),
          arg("kernel", is_float8 ? "Float8Forward" : "Forward"), arg("d_qk", shape.d_qk), arg("d_v", shape.d_v),
          arg("consumers", plan.consumers), arg("key_tile", plan.key_tile), arg("stages", plan.stages),
          arg("query_stages", plan.query_stages), arg("stages_output", plan.stages_output),
          arg("query_in_registers", plan.query_in_registers), arg("polynomials", polynomials_of_eight(shape, scores)),
          arg("takes_turns", takes_turns(shape, scores)), arg("producer_registers", plan.producer_registers()),
          arg("consumer_registers", plan.consumer_registers()), arg("has_lists", shape.has_lists),
          arg("has_dropout", shape.has_dropout), arg("is_paged", shape.is_paged),
          arg("ends_with_queries", plan.ends_with_queries), arg("threads", plan.threads()),
          arg("tile_bytes", plan.tile_bytes(shape)), arg("shared_bytes", plan.tile_bytes(shape) + plan.other_shared()));
  program.headers = device_headers();
  program.headers.push_back(rearranged_header(variant, text));
  program.headers.push_back(wgmma_shapes(shape.dtype, {plan.key_tile, rounded_to_16(shape.d_v)}));
  program.options = {"--std=c++17"};
  program.architecture = architecture;
  program.kernels = {"forward"};
  if (is_float8) {
    program.source += kFloat8ValuesSource;
    program.kernels.emplace_back("transpose_values");
  }
  return program;
}

bool counts_added(const Variant& variant, const ForwardShape& shape) {
  return !shape.is_deterministic && shape.d_qk <= 128 && shape.d_v <= 128 && !changes_scores(variant);
}

jit::Program hopper_backward_program(const Variant& variant, const variant::CudaText& text, const ForwardShape& shape,
                                     const HopperBackwardPlan& plan, const jit::Architecture& architecture) {
  using fmt::arg;
  jit::Program program;
  program.name = "backward.cu";
  program.source = includes("sm90/backward.h") +
                   fmt::format(kBackwardSource, arg("element", shape.dtype == DType::bfloat16 ? "BFloat16" : "Float16"),
                               arg("d_qk", shape.d_qk), arg("d_v", shape.d_v), arg("stages", plan.stages),
                               arg("producer_registers", plan.producer_registers()),
                               arg("consumer_registers", plan.consumer_registers()), arg("has_lists", shape.has_lists),
                               arg("has_long_rows", shape.has_long_rows && !shape.is_deterministic),
                               arg("has_dropout", shape.has_dropout), arg("is_ordered", shape.is_deterministic),
                               arg("has_gradients", shape.has_gradients), arg("is_paired", plan.is_paired),
                               arg("counts_added", counts_added(variant, shape)), arg("threads", plan.threads()),
                               arg("tile_bytes", plan.tile_bytes(shape)),
                               arg("shared_bytes", plan.tile_bytes(shape) + plan.other_shared()));
  program.headers = device_headers();
  program.headers.push_back(shape.has_gradients ? gradients_header(variant, text) : rearranged_header(variant, text));
  const int queries_of_consumer = shape.d_qk > 64 ? HopperBackwardPlan::kQueries : HopperBackwardPlan::kQueries / 2;
  program.headers.push_back(wgmma_shapes(shape.dtype, {HopperBackwardPlan::kQueries, queries_of_consumer,
                                                       rounded_to_16(shape.d_qk), rounded_to_16(shape.d_v)}));
  program.options = {"--std=c++17"};
  program.architecture = architecture;
  program.kernels = {"prepare", "backward", "finish"};
  return program;
}

}  // namespace tilewise::cuda
