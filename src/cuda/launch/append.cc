#include "cuda/launch/append.h"

#include <fmt/format.h>

#include "core/round_up.h"
#include "cuda/launch/kernel_text.h"

namespace tilewise::cuda {
namespace {

constexpr const char* kSource = R"cuda(#include "arguments.h"
#include "append.h"

namespace tilewise::cuda {{
struct Config {{
  using Element = {element};
  static constexpr int kHeadQk = {d_qk}, kHeadV = {d_v};
}};
}}  // namespace tilewise::cuda

extern "C" __global__ void append(const __grid_constant__ tilewise::cuda::AppendArguments arguments) {{
  tilewise::cuda::append_row<tilewise::cuda::Config>(arguments);
}}
)cuda";

}  // namespace

jit::Program append_program(DType dtype, int d_qk, int d_v, const jit::Architecture& architecture) {
  using fmt::arg;
  jit::Program program;
  program.name = "append.cu";
  program.source = fmt::format(kSource, arg("element", element_name(dtype)), arg("d_qk", d_qk), arg("d_v", d_v));
  program.headers = device_headers();
  program.options = {"--std=c++17"};
  program.architecture = architecture;
  program.kernels = {"append"};
  return program;
}

AppendKernel::AppendKernel(jit::Compiler& compiler, const std::shared_ptr<const jit::Context>& context, DType dtype,
                           int d_qk, int d_v)
    : kernel_(jit::load_program(compiler, append_program(dtype, d_qk, d_v, context->device().architecture()), context)
                  ->kernel("append")) {}

void AppendKernel::launch(const AppendArguments& arguments, std::int64_t b, std::int64_t h_kv, std::int64_t tokens,
                          jit::StreamHandle stream) const {
  constexpr unsigned kWarps = 4;
  if (b == 0 || tokens == 0) return;
  kernel_(
      {.grid = {static_cast<unsigned>(ceil_div(tokens, kWarps)), static_cast<unsigned>(h_kv), static_cast<unsigned>(b)},
       .block = {32 * kWarps, 1, 1},
       .stream = stream},
      arguments);
}

}  // namespace tilewise::cuda
