#include "tilewise/compile.h"

#include <chrono>

#include "attention/check_plan.h"
#include "attention/planned_mask.h"
#include "core/fail.h"
#include "cuda/launch/ahead.h"
#include "cuda/plan/decode_plan.h"
#include "jit/compiler.h"

namespace tilewise {
namespace {

cuda::AheadShape ahead_shape(const Variant& variant, const PlanShape& shape, bool has_lists) {
  constexpr std::int64_t kDecodeQueries = 16;  // as plans for a GPU have it
  cuda::AheadShape ahead;
  ahead.kernel.dtype = shape.dtype;
  ahead.kernel.d_qk = static_cast<int>(std::min<std::int64_t>(shape.d_qk, 1 << 20));
  ahead.kernel.d_v = static_cast<int>(std::min<std::int64_t>(shape.d_v, 1 << 20));
  ahead.kernel.has_lists = has_lists;
  ahead.kernel.has_dropout = variant.has_dropout();
  ahead.kernel.is_deterministic = shape.deterministic;
  ahead.rows = shape.h_q / shape.h_kv * shape.s_q;
  ahead.decodes = !shape.backward && shape.s_q <= kDecodeQueries;
  ahead.has_backward = shape.backward;
  ahead.differentiates_variant = attention::binds_anything(variant);
  return ahead;
}

}  // namespace

std::vector<CompiledKernel> compile_ahead(const Variant& variant, const PlanShape& shape,
                                          const std::string& architecture, const std::string& folder, bool paged) {
  if (folder.empty()) fail_argument("folder is empty; expected where compiled kernels go");
  attention::check_shape(variant, shape);
  const jit::Architecture target = jit::Architecture::parse(architecture);
  const tiles::Mask mask = attention::planned_mask(variant, shape);
  jit::Compiler compiler(jit::Backend::nvrtc(), {.folder = folder, .shipped = {}});
  std::vector<CompiledKernel> kernels;
  const auto compile = [&](const cuda::AheadShape& ahead) {
    for (const jit::Program& program : cuda::programs_ahead(variant, mask, ahead, target)) {
      const jit::Compiler::Counts before = compiler.counts();
      const auto begin = std::chrono::steady_clock::now();
      const std::shared_ptr<const jit::Binary> binary = compiler.get(program);
      const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
      const jit::Compiler::Counts after = compiler.counts();
      if (after.from_memory > before.from_memory) continue;  // shared with what came before
      if (after.not_kept > before.not_kept)
        fail(ErrorCode::io, "{} cannot be filled: {}", folder, compiler.take_cache_problem());
      for (const std::string& name : program.kernels) {
        const auto& resources = binary->kernel(name).resources;
        kernels.push_back({name, target.name(), resources ? resources->registers : 0,
                           resources ? resources->stack_bytes : 0,
                           after.compiled > before.compiled ? time.count() : 0});
      }
    }
  };
  cuda::AheadShape ahead = ahead_shape(variant, shape, !mask.program.wanted.empty());
  compile(ahead);
  if (cuda::needs_wide_decode(ahead.kernel)) {
    ahead.kernel.values_in_keys = true;
    compile(ahead);
  }
  if (!paged || shape.backward) return kernels;
  ahead.kernel.is_paged = true;
  for (const int multiple : {16, 8, 1}) {
    ahead.kernel.page_multiple = multiple;
    compile(ahead);
  }
  return kernels;
}

}  // namespace tilewise
