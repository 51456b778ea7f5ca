// The public calls: choosing a backend, and handing calls to it.
#include "tilewise/attention.h"

#include <algorithm>

#include "attention/backend.h"
#include "attention/call_state.h"
#include "attention/check_plan.h"
#include "attention/predicted.h"
#include "core/fail.h"
#include "core/or_out_of_memory.h"
#include "tilewise/tiles.h"

namespace tilewise {
namespace {

/// A workspace that this thread keeps for a device, grown to what the plan needs, for one call. A caller's executor may
/// run other calls on this thread while one of them waits: each has its own.
class OwnWorkspace {
 public:
  explicit OwnWorkspace(const attention::Backend& backend) {
    Kept& kept = of_thread();
    const auto idle = std::ranges::find_if(
        kept.idle, [&](const std::optional<Workspace>& workspace) { return workspace->device() == backend.device(); });
    if (idle != kept.idle.end()) {
      workspace_ = std::move(*idle);
      kept.idle.erase(idle);
    } else {
      kept.idle.reserve(++kept.made);  // room for the return of each, since destructors must not throw
    }
    if (!workspace_ || workspace_->bytes() < backend.workspace_bytes()) {
      workspace_.emplace(backend.workspace_bytes(), backend.device());
    }
  }
  ~OwnWorkspace() {
    if (workspace_) of_thread().idle.push_back(std::move(workspace_));
  }
  OwnWorkspace(const OwnWorkspace&) = delete;
  OwnWorkspace& operator=(const OwnWorkspace&) = delete;

  Workspace& get() { return *workspace_; }

 private:
  struct Kept {
    std::vector<std::optional<Workspace>> idle;
    std::size_t made = 0;
  };
  static Kept& of_thread() {
    thread_local Kept kept;
    return kept;
  }

  std::optional<Workspace> workspace_;
};

/// One direction's line: standard attention's bytes beside those of the kept tiles, where they can be told.
std::string traffic_line(const char* direction, double standard, const std::string& tiled) {
  return fmt::format("traffic {}: standard attention {:.3g} MB, tiled {}\n", direction, standard / 1e6, tiled);
}

std::string traffic_text(const Plan& plan) {
  const PlanShape& shape = plan.shape();
  const TileSizes tile;
  const std::int64_t of_q = size_of(shape.dtype), of_kv = size_of(attention::kv_dtype_of(shape)),
                     of_o = size_of(attention::o_dtype_of(shape));
  const TrafficShape head{shape.s_q, shape.s_kv, shape.d_qk, shape.d_v, of_q, of_kv, of_o, of_o};
  const double heads = static_cast<double>(shape.b * shape.h_q);
  const double tiles = heads * static_cast<double>(shape.s_q) / 128 * static_cast<double>(shape.s_kv) / 128;
  std::string forward, backward;
  if (attention::has_bindings(plan.variant())) {
    forward = backward = "depends on what calls bind";
  } else if (tiles > attention::kMostPredictedTiles) {
    forward = backward = "not predicted, for there are too many tiles";
  } else {
    const Problem problem = Problem::uniform(shape.b, shape.h_q, shape.h_kv, shape.s_q, shape.s_kv);
    double forward_bytes = 0, backward_bytes = 0;
    for (std::int64_t sequence = 0; sequence < shape.b; ++sequence) {
      for (std::int64_t i = 0; i < shape.h_q; ++i) {
        const TileMap map = classify_tiles(plan.variant(), {}, problem, tile, sequence, i);
        forward_bytes += tiled_forward_traffic(head, map).total();
        backward_bytes += tiled_backward_traffic(head, map).total();
      }
    }
    forward = fmt::format("{} x {} {:.3g} MB", tile.queries, tile.keys, forward_bytes / 1e6);
    backward = fmt::format("{} x {} {:.3g} MB", tile.queries, tile.keys, backward_bytes / 1e6);
  }
  std::string text = traffic_line("forward", heads * standard_forward_traffic(head).total(), forward);
  if (shape.backward) text += traffic_line("backward", heads * standard_backward_traffic(head).total(), backward);
  return text;
}

/// Runs a call. The first one in a workspace, and one that binds a new mask, takes memory for what later calls use.
template <class Call>
void run_call(const char* name, const Call& call) {
  or_out_of_memory(call, "{}: memory for what calls keep with their workspace could not be had", name);
}

std::shared_ptr<const attention::Backend> make_backend(const Variant& variant, const PlanShape& shape,
                                                       const Device& device) {
  attention::check_shape(variant, shape);
  std::vector<std::string> refusals;
  const auto attempt = [&](const char* name, const auto& make) -> std::shared_ptr<attention::Backend> {
    try {
      return make();
    } catch (const Error& error) {
      if (error.code() != ErrorCode::unsupported) throw;
      refusals.push_back(fmt::format("{}: {}", name, error.what()));
      return nullptr;
    }
  };
  std::shared_ptr<attention::Backend> backend;
  if (device.is_cuda()) {
    backend = attempt(device.text().c_str(), [&] { return attention::make_cuda_backend(variant, shape, device); });
    refusals.push_back(fmt::format("cpu: the plan is for {}", device.text()));
  } else {
    backend = attempt("cpu", [&] { return attention::make_cpu_backend(variant, shape, device); });
    if (backend == nullptr) {
      backend = attempt("reference", [&] { return attention::make_reference_backend(variant, shape); });
    } else {
      refusals.emplace_back("reference: takes float64 alone, for its cost grows with s_q x s_kv");
    }
  }
  if (backend == nullptr) {
    fail(ErrorCode::unsupported, "no backend takes this shape. {}", fmt::join(refusals, ". "));
  }
  backend->refusals.insert(backend->refusals.end(), refusals.begin(), refusals.end());
  return backend;
}

}  // namespace

Plan Attention::plan(const PlanShape& shape, const Device& device) const {
  return or_out_of_memory([&] { return Plan(make_backend(variant_, shape, device)); },
                          "a plan for b = {}, h_q = {} does not fit into memory", shape.b, shape.h_q);
}

void Plan::forward(const ForwardInputs& inputs, const ForwardOutputs& outputs, Workspace& workspace) const {
  run_call("forward()", [&] { backend_->forward(inputs, outputs, workspace); });
}

void Plan::forward(const ForwardInputs& inputs, const ForwardOutputs& outputs) const {
  run_call("forward()", [&] { backend_->forward(inputs, outputs, OwnWorkspace(*backend_).get()); });
}

void Plan::backward(const ForwardInputs& inputs, const BackwardInputs& given, const BackwardOutputs& outputs,
                    Workspace& workspace) const {
  if (!shape().backward) fail_argument("the plan was made for the forward pass; expected PlanShape::backward");
  run_call("backward()", [&] { backend_->backward(inputs, given, outputs, workspace); });
}

void Plan::backward(const ForwardInputs& inputs, const BackwardInputs& given, const BackwardOutputs& outputs) const {
  run_call("backward()", [&] { backward(inputs, given, outputs, OwnWorkspace(*backend_).get()); });
}

std::int64_t Plan::workspace_bytes() const { return backend_->workspace_bytes(); }
std::int64_t Plan::touched_bytes() const { return backend_->touched_bytes(); }
const Variant& Plan::variant() const { return backend_->variant(); }
const PlanShape& Plan::shape() const { return backend_->shape(); }
std::string Plan::instruction_set() const { return backend_->instruction_set(); }

std::string Plan::explain() const {
  std::string text = backend_->explain();
  text += fmt::format("workspace: {} bytes, of which calls of the planned lengths touch {}\n", workspace_bytes(),
                      touched_bytes());
  text += traffic_text(*this);
  for (const std::string& refusal : backend_->refusals) text += fmt::format("not taken: {}\n", refusal);
  return text;
}

}  // namespace tilewise
