#include "jit/kernel_chain.h"

#include <algorithm>

namespace tilewise::jit {
namespace {

bool is_plain(const ChainLink& link) {
  return link.shape.cluster == std::array<unsigned, 3>{1, 1, 1} && !link.shape.begins_early;
}

KernelNode node_of(const ChainLink& link, FunctionHandle function) {
  return {.function = function,
          .grid = link.shape.grid,
          .block = link.shape.block,
          .dynamic_shared_bytes = link.shape.dynamic_shared_bytes,
          .arguments = link.arguments,
          .extra = nullptr,
          .kernel = nullptr,
          .context = nullptr};
}

}  // namespace

KernelChain::~KernelChain() { clear(); }

void KernelChain::clear() {
  if (kernels_.empty()) return;
  const DriverApi& api = kernels_.front().module_->context().driver().api();
  if (executable_ != nullptr) api.graph_destroy_executable(executable_);  // what is under way is finished
  if (graph_ != nullptr) api.graph_destroy(graph_);
  executable_ = nullptr;
  graph_ = nullptr;
  nodes_.clear();
  kernels_.clear();
}

void KernelChain::launch(std::span<const ChainLink> links, StreamHandle stream) {
  if (links.empty()) return;
  const Context& context = links.front().kernel->module_->context();
  const Driver& driver = context.driver();
  const CurrentContext current(context);
  int capture = 0;
  const bool can_join = links.size() > 1 && driver.api().has_graphs() && std::ranges::all_of(links, is_plain) &&
                        driver.api().stream_is_capturing(stream, &capture) == 0 && capture == 0;
  if (!can_join) {
    for (const ChainLink& link : links) {
      LaunchShape shape = link.shape;
      shape.stream = stream;
      link.kernel->launch(shape, link.arguments);
    }
    return;
  }
  for (const ChainLink& link : links) link.kernel->expect_fits(link.shape);
  if (!set(links)) make(links);
  driver.check(driver.api().graph_launch(executable_, stream), "to launch kernels");
}

/// Whether the graph could be given these kernels.
bool KernelChain::set(std::span<const ChainLink> links) const {
  if (executable_ == nullptr || links.size() != kernels_.size()) return false;
  for (std::size_t i = 0; i < links.size(); ++i) {
    const Kernel& kernel = *links[i].kernel;
    if (kernel.function_ != kernels_[i].function_) return false;
    const KernelNode node = node_of(links[i], kernel.function_);
    if (kernel.module_->context().driver().api().graph_set_kernel(executable_, nodes_[i], &node) != 0) return false;
  }
  return true;
}

void KernelChain::make(std::span<const ChainLink> links) {
  clear();
  const Driver& driver = links.front().kernel->module_->context().driver();
  const DriverApi& api = driver.api();
  for (const ChainLink& link : links) kernels_.push_back(*link.kernel);
  driver.check(api.graph_create(&graph_, 0), "to make a graph of kernels");
  for (const ChainLink& link : links) {
    const KernelNode node = node_of(link, link.kernel->function_);
    const GraphNodeHandle* const before = nodes_.empty() ? nullptr : &nodes_.back();
    GraphNodeHandle made = nullptr;
    driver.check(api.graph_add_kernel(&made, graph_, before, nodes_.size() > 0 ? 1 : 0, &node),
                 "to add a kernel to a graph");
    nodes_.push_back(made);
  }
  driver.check(api.graph_instantiate(&executable_, graph_, 0), "to make a graph of kernels ready");
}

}  // namespace tilewise::jit
