#include <cstring>

#include "variant/cuda_text.h"

namespace tilewise::variant {
namespace {

template <class T>
void put(std::vector<std::byte>& bytes, std::int64_t offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof(value));
}

void put_number(std::vector<std::byte>& bytes, std::int64_t offset, Type type, double value) {
  if (type == Type::real)
    put(bytes, offset, static_cast<float>(value));
  else
    put(bytes, offset, static_cast<std::int32_t>(value));
}

}  // namespace

std::int64_t table_view_size(int rank) { return 8 + 8 * rank + (4 * rank + 7) / 8 * 8; }

std::vector<std::byte> pack_arguments(const Graph& graph, const Bound& bound, const ArgumentLayout& layout) {
  std::vector<std::byte> bytes;
  pack_arguments(graph, bound, layout, bytes);
  return bytes;
}

void pack_arguments(const Graph& graph, const Bound& bound, const ArgumentLayout& layout,
                    std::vector<std::byte>& bytes) {
  bytes.assign(static_cast<std::size_t>(layout.size), std::byte{0});
  for (std::size_t i = 0; i < bound.tables.size(); ++i) {
    const BoundTable& table = bound.tables[i];
    std::int64_t offset = layout.tables[i];
    put(bytes, offset, table.data);
    offset += 8;
    for (std::size_t axis = 0; axis < static_cast<std::size_t>(table.rank); ++axis, offset += 8)
      put(bytes, offset, table.strides[axis]);
    for (std::size_t axis = 0; axis < static_cast<std::size_t>(table.rank); ++axis, offset += 4) {
      put(bytes, offset, static_cast<std::int32_t>(table.extents[axis]));
    }
  }
  std::size_t slot = 0;
  for (const Node& node : graph.nodes()) {
    if (node.kind == Kind::literal) put_number(bytes, layout.literals[slot], node.type, bound.literals[slot]), ++slot;
  }
  for (std::size_t i = 0; i < bound.parameters.size(); ++i) {
    put_number(bytes, layout.parameters[i], graph.parameters()[i].type(), bound.parameters[i]);
  }
}

}  // namespace tilewise::variant
