// The CUDA kernels behind a C interface, for bench/compare_torch_cuda.py: tensors and streams are PyTorch's.
//
// Every function returns 0 or, after a failure, 1: bridge_error() then says what failed.
#include <memory>
#include <string>

#include "cuda/launch/backward.h"
#include "cuda/launch/bound_variant.h"
#include "cuda/launch/forward.h"
#include "cuda/launch/kernel_text.h"
#include "jit/compiler.h"
#include "tilewise/error.h"
#include "tilewise/zoo.h"

namespace {

using namespace tilewise;        // NOLINT(google-build-using-namespace): this file has no other subject
using namespace tilewise::cuda;  // NOLINT(google-build-using-namespace)

thread_local std::string error;

template <class Step>
int guarded(Step step) {
  try {
    step();
    return 0;
  } catch (const std::exception& failure) {
    error = failure.what();
    return 1;
  }
}

Variant variant_of(const std::string& name, int h_q) {
  if (name == "full") return Variant();
  if (name == "causal") return zoo::causal();
  if (name == "softcap") return zoo::softcap(30);
  if (name == "softcap_causal") return zoo::softcap(30) & zoo::causal();
  if (name == "alibi") return zoo::alibi(h_q);
  if (name == "alibi_causal") return zoo::alibi(h_q) & zoo::causal();
  if (name == "window") return zoo::window(1024);
  throw Error(ErrorCode::invalid_argument, "no variant is called " + name);
}

/// A problem, ready to launch.
struct Attention {
  std::shared_ptr<const jit::Context> context;
  Problem problem;
  std::unique_ptr<ForwardKernel> kernel;
  std::unique_ptr<BoundVariant> bound;
  DeviceMemory sequences;
  std::unique_ptr<DeviceTileLists> lists;
  ForwardArguments arguments{};
  ForwardExtent extent;
  std::string plan;
};

/// The kernel that is chosen for -1; else the candidate of that number, those for 9.0 first where the GPU is one.
std::unique_ptr<ForwardKernel> kernel_of(const std::shared_ptr<const jit::Context>& context, const Variant& variant,
                                         const ForwardShape& shape, int candidate) {
  jit::Compiler& compiler = jit::Compiler::instance();
  if (candidate < 0) return std::make_unique<ForwardKernel>(compiler, context, variant, shape);
  const Multiprocessor limits = limits_of(context->device());
  auto number = static_cast<std::size_t>(candidate);
  if (context->device().compute_capability_major == 9) {
    const auto plans = hopper_forward_candidates(shape, changes_scores(variant), limits);
    if (number < plans.size()) return std::make_unique<ForwardKernel>(compiler, context, variant, shape, plans[number]);
    number -= plans.size();
  }
  const auto plans = forward_candidates(shape, limits);
  return std::make_unique<ForwardKernel>(compiler, context, variant, shape, plans.at(number));
}

std::unique_ptr<Attention> open(const std::string& name, int b, int h_q, int h_kv, int s_q, int s_kv, int d,
                                int candidate) {
  auto made = std::make_unique<Attention>();
  made->context = std::make_shared<const jit::Context>(jit::Driver::instance(), 0);
  made->problem = Problem::uniform(b, h_q, h_kv, s_q, s_kv);
  const Variant variant = variant_of(name, h_q);
  ForwardShape shape;
  shape.d_qk = shape.d_v = d;
  shape.has_lists = name != "full";
  made->kernel = kernel_of(made->context, variant, shape, candidate);
  made->plan = made->kernel->explanation();
  made->bound = std::make_unique<BoundVariant>(made->context, variant, made->kernel->layout(), Bindings());
  made->sequences = DeviceMemory::of(made->context, sequence_shapes(made->problem));
  made->arguments.sequences = made->sequences.as<const SequenceShape>();
  if (shape.has_lists) {
    tiles::Classifier classifier(variant, Bindings(), made->problem);
    made->lists = std::make_unique<DeviceTileLists>(
        made->context, make_tile_lists(classifier, made->problem, made->kernel->tile_sizes()));
    made->arguments.lists = made->lists->view();
  }
  made->arguments.heads_per_kv = h_q / h_kv;
  made->extent = extent_of(made->problem, false);
  return made;
}

/// A backward problem, ready to launch.
struct Gradients {
  std::shared_ptr<const jit::Context> context;
  Problem problem;
  std::unique_ptr<BackwardKernels> kernels;
  std::unique_ptr<BoundVariant> bound;
  DeviceMemory sequences, reference, delta, d_q_sums;
  std::unique_ptr<DeviceTileLists> lists;
  BackwardArguments arguments{};
  int d = 0;
  std::string plan;
};

/// As kernel_of.
std::unique_ptr<BackwardKernels> kernels_of(const std::shared_ptr<const jit::Context>& context, const Variant& variant,
                                            const ForwardShape& shape, int candidate) {
  jit::Compiler& compiler = jit::Compiler::instance();
  if (candidate < 0) return std::make_unique<BackwardKernels>(compiler, context, variant, shape);
  auto number = static_cast<std::size_t>(candidate);
  if (context->device().compute_capability_major == 9) {
    const auto plans = hopper_backward_candidates(shape, limits_of(context->device()));
    if (number < plans.size()) {
      return std::make_unique<BackwardKernels>(compiler, context, variant, shape, plans[number]);
    }
    number -= plans.size();
  }
  if (number > 0) throw Error(ErrorCode::invalid_argument, "there are not that many candidates");
  return std::make_unique<BackwardKernels>(compiler, context, variant, shape, BackwardPlan());
}

std::unique_ptr<Gradients> open_gradients(const std::string& name, int b, int h_q, int h_kv, int s_q, int s_kv, int d,
                                          int candidate) {
  auto made = std::make_unique<Gradients>();
  made->context = std::make_shared<const jit::Context>(jit::Driver::instance(), 0);
  made->problem = Problem::uniform(b, h_q, h_kv, s_q, s_kv);
  made->d = d;
  const Variant variant = variant_of(name, h_q);
  ForwardShape shape;
  shape.d_qk = shape.d_v = d;
  shape.has_lists = name != "full";
  made->kernels = kernels_of(made->context, variant, shape, candidate);
  made->plan = made->kernels->explanation();
  made->bound = std::make_unique<BoundVariant>(made->context, variant, made->kernels->layout(), Bindings());
  made->sequences = DeviceMemory::of(made->context, sequence_shapes(made->problem));
  const auto floats = [&](std::int64_t count) {
    return DeviceMemory(made->context, static_cast<std::size_t>(count) * sizeof(float));
  };
  made->reference = floats(BackwardKernels::row_floats(b, h_q, s_q));
  made->delta = floats(BackwardKernels::row_floats(b, h_q, s_q));
  made->d_q_sums = floats(BackwardKernels::d_q_floats(b, h_q, s_q, d));
  BackwardArguments& arguments = made->arguments;
  arguments.sequences = made->sequences.as<const SequenceShape>();
  arguments.reference = made->reference.as<float>();
  arguments.delta = made->delta.as<float>();
  arguments.d_q_sums = made->d_q_sums.as<float>();
  arguments.heads_per_kv = h_q / h_kv;
  arguments.h_q = h_q;
  arguments.s_q = s_q;
  if (shape.has_lists) {
    tiles::Classifier classifier(variant, Bindings(), made->problem);
    made->lists = std::make_unique<DeviceTileLists>(
        made->context, make_query_lists(classifier, made->problem, made->kernels->tile_sizes()));
    arguments.lists = made->lists->view();
  }
  return made;
}

/// [b, s, h, d] without gaps.
TensorView dense(void* data, int s, int h, int d) {
  const auto row = static_cast<long long>(h) * d;
  return {data, s * row, d, row};
}

}  // namespace

extern "C" {

const char* bridge_error() { return error.c_str(); }

/// `candidate`: see kernel_of; what is made is closed by bridge_close.
int bridge_open(const char* variant, int b, int h_q, int h_kv, int s_q, int s_kv, int d, int candidate, void** made) {
  return guarded([&] { *made = open(variant, b, h_q, h_kv, s_q, s_kv, d, candidate).release(); });
}

void bridge_close(void* attention) { delete static_cast<Attention*>(attention); }

const char* bridge_plan(void* attention) { return static_cast<Attention*>(attention)->plan.c_str(); }

/// q, k, v, o: bfloat16 [b, s, h, d] without gaps, on the GPU; lse: float32 [b, h_q, s_q], or null.
int bridge_forward(void* attention, void* q, void* k, void* v, void* o, void* lse, float scale, void* stream) {
  return guarded([&] {
    Attention& a = *static_cast<Attention*>(attention);
    const int h_q = static_cast<int>(a.problem.h_q), h_kv = static_cast<int>(a.problem.h_kv);
    const int s_q = static_cast<int>(a.extent.s_q), s_kv = static_cast<int>(a.problem.sequences[0].s_kv);
    const ForwardShape& shape = a.kernel->shape();
    a.arguments.q = dense(q, s_q, h_q, shape.d_qk);
    a.arguments.k = dense(k, s_kv, h_kv, shape.d_qk);
    a.arguments.v = dense(v, s_kv, h_kv, shape.d_v);
    a.arguments.o = dense(o, s_q, h_q, shape.d_v);
    a.arguments.lse = {lse, static_cast<long long>(h_q) * s_q, s_q, 1};
    a.arguments.scale = scale;
    a.kernel->launch(a.arguments, a.bound->bytes(), a.extent, static_cast<jit::StreamHandle>(stream));
  });
}

/// As bridge_open; closed by bridge_close_backward.
int bridge_open_backward(const char* variant, int b, int h_q, int h_kv, int s_q, int s_kv, int d, int candidate,
                         void** made) {
  return guarded([&] { *made = open_gradients(variant, b, h_q, h_kv, s_q, s_kv, d, candidate).release(); });
}

const char* bridge_plan_backward(void* gradients) { return static_cast<Gradients*>(gradients)->plan.c_str(); }

void bridge_close_backward(void* gradients) { delete static_cast<Gradients*>(gradients); }

/// `tensors`: q, k, v, o, d_o, d_q, d_k, d_v, all bfloat16 [b, s, h, d] without gaps; lse: float32 [b, h_q, s_q].
int bridge_backward(void* gradients, void** tensors, void* lse, float scale, void* stream) {
  return guarded([&] {
    Gradients& g = *static_cast<Gradients*>(gradients);
    const int h_q = static_cast<int>(g.problem.h_q), h_kv = static_cast<int>(g.problem.h_kv);
    const int s_q = g.arguments.s_q, s_kv = static_cast<int>(g.problem.sequences[0].s_kv);
    BackwardArguments& a = g.arguments;
    TensorView* of_queries[] = {&a.q, &a.o, &a.d_o, &a.d_q};
    TensorView* of_keys[] = {&a.k, &a.v, &a.d_k, &a.d_v};
    const int query_places[] = {0, 3, 4, 5}, key_places[] = {1, 2, 6, 7};
    for (int i = 0; i < 4; ++i) {
      *of_queries[i] = dense(tensors[query_places[i]], s_q, h_q, g.d);
      *of_keys[i] = dense(tensors[key_places[i]], s_kv, h_kv, g.d);
    }
    a.lse = {lse, static_cast<long long>(h_q) * s_q, s_q, 1};
    a.scale = scale;
    g.kernels->launch(a, g.bound->bytes(), extent_of(g.problem, false), static_cast<jit::StreamHandle>(stream));
  });
}

}  // extern "C"
