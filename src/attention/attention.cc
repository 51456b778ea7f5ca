// The public calls: choosing a backend, and handing calls to it.
#include "tilewise/attention.h"

#include <algorithm>

#include "attention/backend.h"
#include "attention/call_state.h"
#include "attention/check_plan.h"
#include "core/fail.h"
#include "tilewise/tiles.h"

namespace tilewise {
namespace {

/// The workspace of this thread, grown to what the plan needs.
Workspace& own_workspace(const Plan& plan) {
  thread_local Workspace workspace;
  if (workspace.bytes() < plan.workspace_bytes()) workspace = Workspace(plan.workspace_bytes());
  return workspace;
}

/// Tiles that are classified for a prediction, at most: some tenths of a second.
constexpr double kMostTiles = 1 << 20;

std::string traffic_text(const Plan& plan) {
  const PlanShape& shape = plan.shape();
  const TileSizes tile;
  const Problem problem = Problem::uniform(shape.b, shape.h_q, shape.h_kv, shape.s_q, shape.s_kv);
  const std::int64_t element = size_of(shape.dtype);
  const TrafficShape head{shape.s_q, shape.s_kv, shape.d_qk, shape.d_v, element, element, element, element};
  const double standard = static_cast<double>(shape.b * shape.h_q) * standard_forward_traffic(head).total();
  std::string text = fmt::format("traffic forward, standard attention: {:.3g} MB\n", standard / 1e6);
  const double tiles = static_cast<double>(shape.b * shape.h_q) * static_cast<double>(shape.s_q) / 128 *
                       static_cast<double>(shape.s_kv) / 128;
  const auto is_bound = [](const Table& table) { return !table.frozen_data().has_value(); };
  if (!plan.variant().parameters().empty() || std::ranges::any_of(plan.variant().tables(), is_bound)) {
    return text + "traffic forward, tiled: depends on what calls bind\n";
  }
  if (tiles > kMostTiles) return text + "traffic forward, tiled: not predicted, for there are too many tiles\n";
  double tiled = 0;
  for (std::int64_t sequence = 0; sequence < shape.b; ++sequence) {
    for (std::int64_t i = 0; i < shape.h_q; ++i) {
      tiled += tiled_forward_traffic(head, classify_tiles(plan.variant(), {}, problem, tile, sequence, i)).total();
    }
  }
  return text + fmt::format("traffic forward, tiled {} x {}: {:.3g} MB\n", tile.queries, tile.keys, tiled / 1e6);
}

}  // namespace

Plan Attention::plan(const PlanShape& shape, const Device& device) const {
  attention::check_shape(variant_, shape);
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
  auto backend = attempt("cpu", [&] { return attention::make_cpu_backend(variant_, shape, device); });
  if (backend == nullptr) {
    backend = attempt("reference", [&] { return attention::make_reference_backend(variant_, shape); });
  } else {
    refusals.emplace_back("reference: takes float64 alone, for its cost grows with s_q x s_kv");
  }
  if (backend == nullptr) {
    fail(ErrorCode::unsupported, "no backend takes this shape. {}", fmt::join(refusals, ". "));
  }
  backend->refusals.insert(backend->refusals.end(), refusals.begin(), refusals.end());
  return Plan(std::move(backend));
}

void Plan::forward(const ForwardInputs& inputs, const ForwardOutputs& outputs, Workspace& workspace) const {
  backend_->forward(inputs, outputs, workspace);
}

void Plan::forward(const ForwardInputs& inputs, const ForwardOutputs& outputs) const {
  forward(inputs, outputs, own_workspace(*this));
}

void Plan::backward(const ForwardInputs& inputs, const BackwardInputs& given, const BackwardOutputs& outputs,
                    Workspace& workspace) const {
  if (!shape().backward) fail_argument("the plan was made for the forward pass; expected PlanShape::backward");
  backend_->backward(inputs, given, outputs, workspace);
}

void Plan::backward(const ForwardInputs& inputs, const BackwardInputs& given, const BackwardOutputs& outputs) const {
  backward(inputs, given, outputs, own_workspace(*this));
}

std::int64_t Plan::workspace_bytes() const { return backend_->workspace_bytes(); }
const Variant& Plan::variant() const { return backend_->variant(); }
const PlanShape& Plan::shape() const { return backend_->shape(); }

std::string Plan::explain() const {
  std::string text = backend_->explain();
  text += fmt::format("workspace: {} bytes\n", workspace_bytes());
  text += traffic_text(*this);
  for (const std::string& refusal : backend_->refusals) text += fmt::format("not taken: {}\n", refusal);
  return text;
}

}  // namespace tilewise
