// Plans on the processor behind a C interface, for bench/compare_torch.py: the memory is PyTorch's.
//
// Every function that can fail returns 0 or, after a failure, 1: cpu_bridge_error() then says what failed.
#include <memory>
#include <string>

#include "guarded.h"
#include "tilewise/attention.h"

namespace {

using namespace tilewise;  // NOLINT(google-build-using-namespace): this file has no other subject

/// A plan with threads and a workspace of its own.
struct Planned {
  std::unique_ptr<Executor> executor;
  Plan plan;
  Workspace workspace;
  std::string instruction_set;

  Planned(const std::string& variant, const PlanShape& shape, int threads)
      : executor(make_thread_pool(threads)),
        plan(Attention(parse_variant(variant)).plan(shape, Device::cpu(*executor))),
        workspace(plan.workspace_bytes()),
        instruction_set(plan.instruction_set()) {}

  /// [b, h, s, d] without gaps.
  Tensor tensor(void* data, std::int64_t h, std::int64_t s) const {
    return {data, plan.shape().dtype, {plan.shape().b, h, s, plan.shape().d_qk}};
  }
  Tensor of_queries(void* data) const { return tensor(data, plan.shape().h_q, plan.shape().s_q); }
  Tensor of_keys(void* data) const { return tensor(data, plan.shape().h_kv, plan.shape().s_kv); }
  Tensor lse(void* data) const { return {data, DType::float32, {plan.shape().b, plan.shape().h_q, plan.shape().s_q}}; }
  ForwardInputs inputs(void* q, void* k, void* v) const {
    ForwardInputs given;
    given.q = of_queries(q);
    given.k = of_keys(k);
    given.v = of_keys(v);
    return given;
  }
};

}  // namespace

extern "C" {

const char* cpu_bridge_error() { return error.c_str(); }

/// `sizes`: b, h_q, h_kv, s_q, s_kv, d. Closed by cpu_bridge_close.
int cpu_bridge_open(const char* variant, const char* dtype, const long long* sizes, int backward, int threads,
                    void** made) {
  return guarded([&] {
    PlanShape shape;
    shape.dtype = dtype_from_string(dtype);
    shape.b = sizes[0];
    shape.h_q = sizes[1];
    shape.h_kv = sizes[2];
    shape.s_q = sizes[3];
    shape.s_kv = sizes[4];
    shape.d_qk = shape.d_v = sizes[5];
    shape.backward = backward != 0;
    *made = new Planned(variant, shape, threads);
  });
}

void cpu_bridge_close(void* planned) { delete static_cast<Planned*>(planned); }

const char* cpu_bridge_instruction_set(void* planned) {
  return static_cast<Planned*>(planned)->instruction_set.c_str();
}

/// `tensors`: q, k, v, o, lse, the last float32.
int cpu_bridge_forward(void* planned, void** tensors) {
  return guarded([&] {
    Planned& p = *static_cast<Planned*>(planned);
    p.plan.forward(p.inputs(tensors[0], tensors[1], tensors[2]),
                   {.o = p.of_queries(tensors[3]), .lse = p.lse(tensors[4])}, p.workspace);
  });
}

/// `tensors`: q, k, v, o, lse, d_o, d_q, d_k, d_v.
int cpu_bridge_backward(void* planned, void** tensors) {
  return guarded([&] {
    Planned& p = *static_cast<Planned*>(planned);
    BackwardInputs given;
    given.o = p.of_queries(tensors[3]);
    given.lse = p.lse(tensors[4]);
    given.d_o = p.of_queries(tensors[5]);
    BackwardOutputs outputs;
    outputs.d_q = p.of_queries(tensors[6]);
    outputs.d_k = p.of_keys(tensors[7]);
    outputs.d_v = p.of_keys(tensors[8]);
    p.plan.backward(p.inputs(tensors[0], tensors[1], tensors[2]), given, outputs, p.workspace);
  });
}

/// GFLOP/s of one burst of multiply-adds.
int cpu_bridge_burst(const char* instruction_set, int threads, double* gflops) {
  return guarded([&] { *gflops = burst_gflops(instruction_set, threads); });
}

}  // extern "C"
