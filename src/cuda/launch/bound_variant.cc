#include "cuda/launch/bound_variant.h"

#include "variant/graph.h"

namespace tilewise::cuda {
namespace {

/// A table's elements in row-major order without gaps, and the view of them.
std::vector<std::byte> gathered(variant::BoundTable& table) {
  std::vector<std::byte> elements;
  const auto size = static_cast<std::size_t>(size_of(table.dtype));
  variant::for_each_index(table, [&](std::span<const std::int64_t> index) {
    const std::byte* element = table.address(index);
    elements.insert(elements.end(), element, element + size);
  });
  std::int64_t stride = 1;
  for (int axis = table.rank; axis-- > 0;) {
    table.strides[static_cast<std::size_t>(axis)] = stride;
    stride *= table.extents[static_cast<std::size_t>(axis)];
  }
  return elements;
}

}  // namespace

void move_to_gpu(const std::shared_ptr<const jit::Context>& context, variant::BoundTable& table,
                 std::vector<DeviceMemory>& memory) {
  memory.push_back(DeviceMemory::of(context, gathered(table)));
  table.data = memory.back().as<const std::byte>();
}

BoundVariant::BoundVariant(std::shared_ptr<const jit::Context> context, const Variant& variant,
                           const variant::ArgumentLayout& layout, const Bindings& bindings) {
  const variant::Graph& graph = variant.data().graph;
  variant::Bound bound = variant::bind(graph, bindings);
  for (variant::BoundTable& table : bound.tables) move_to_gpu(context, table, tables_);
  bytes_ = variant::pack_arguments(graph, bound, layout);
}

}  // namespace tilewise::cuda
