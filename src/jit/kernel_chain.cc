#include "jit/kernel_chain.h"

#include <algorithm>

namespace tilewise::jit {
namespace {

constexpr std::array<unsigned, 3> kOneBlock = {1, 1, 1};

/// Whether a graph of this driver's can hold the kernels.
bool can_hold(const DriverApi& api, std::span<const ChainLink> links) {
  if (links.size() < 2 || !api.has_graphs()) return false;
  const bool have_clusters = std::ranges::any_of(links, [](auto& link) { return link.shape.cluster != kOneBlock; });
  const bool begin_early = std::ranges::any_of(links, [](auto& link) { return link.shape.begins_early; });
  // What is in front of the first one is not in the graph.
  return (!have_clusters || api.graph_set_attribute != nullptr) &&
         (!begin_early || (api.graph_add_dependencies != nullptr && !links.front().shape.begins_early));
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
  if (links_.empty()) return;
  const DriverApi& api = links_.front().kernel.module_->context().driver().api();
  if (executable_ != nullptr) api.graph_destroy_executable(executable_);  // what is under way is finished
  if (graph_ != nullptr) api.graph_destroy(graph_);
  executable_ = nullptr;
  graph_ = nullptr;
  links_.clear();
}

void KernelChain::launch(std::span<const ChainLink> links, StreamHandle stream) {
  if (links.empty()) return;
  const Context& context = links.front().kernel->module_->context();
  const Driver& driver = context.driver();
  const CurrentContext current(context);
  int capture = 0;
  const bool can_join =
      can_hold(driver.api(), links) && driver.api().stream_is_capturing(stream, &capture) == 0 && capture == 0;
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
  if (executable_ == nullptr || links.size() != links_.size()) return false;
  for (std::size_t i = 0; i < links.size(); ++i) {
    const Kernel& kernel = *links[i].kernel;
    const Link& made = links_[i];
    if (kernel.function_ != made.kernel.function_ || links[i].shape.cluster != made.cluster ||
        links[i].shape.begins_early != made.begins_early) {
      return false;
    }
    const KernelNode node = node_of(links[i], kernel.function_);
    if (kernel.module_->context().driver().api().graph_set_kernel(executable_, made.node, &node) != 0) return false;
  }
  return true;
}

/// A kernel behind the node `before`, if there is one.
GraphNodeHandle KernelChain::add(const Driver& driver, const ChainLink& link, GraphNodeHandle before) const {
  const DriverApi& api = driver.api();
  const KernelNode node = node_of(link, link.kernel->function_);
  const bool is_behind = before != nullptr && !link.shape.begins_early;
  GraphNodeHandle made = nullptr;
  driver.check(api.graph_add_kernel(&made, graph_, is_behind ? &before : nullptr, is_behind ? 1 : 0, &node),
               "to add a kernel to a graph");
  if (link.shape.cluster != kOneBlock) {
    LaunchAttribute attribute;
    attribute.value.cluster = link.shape.cluster;
    driver.check(api.graph_set_attribute(made, LaunchAttribute::kClusterDimension, &attribute.value),
                 "to give a graph's kernel its clusters");
  }
  if (link.shape.begins_early) {
    const GraphEdge edge{.from_port = GraphEdge::kProgrammatic, .type = GraphEdge::kProgrammatic};
    driver.check(api.graph_add_dependencies(graph_, &before, &made, &edge, 1),
                 "to let a graph's kernel begin before the one in front of it ends");
  }
  return made;
}

void KernelChain::make(std::span<const ChainLink> links) {
  clear();
  const Driver& driver = links.front().kernel->module_->context().driver();
  const DriverApi& api = driver.api();
  driver.check(api.graph_create(&graph_, 0), "to make a graph of kernels");
  GraphNodeHandle before = nullptr;
  for (const ChainLink& link : links) {
    Link& made = links_.emplace_back(*link.kernel, link.shape.cluster, link.shape.begins_early);
    before = made.node = add(driver, link, before);
  }
  driver.check(api.graph_instantiate(&executable_, graph_, 0), "to make a graph of kernels ready");
}

}  // namespace tilewise::jit
