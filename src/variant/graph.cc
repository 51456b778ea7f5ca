#include "variant/graph.h"

#include <algorithm>
#include <bit>

namespace tilewise::variant {

const char* to_string(Coordinate coordinate) {
  static constexpr const char* kNames[kCoordinates] = {"query",       "key",       "query_index", "key_index",
                                                       "query_token", "key_token", "queries",     "keys",
                                                       "batch",       "head",      "kv_head"};
  return kNames[static_cast<std::size_t>(coordinate)];
}

std::size_t Graph::Hash::operator()(const Node& node) const {
  std::uint64_t hash = static_cast<std::uint64_t>(node.kind) | static_cast<std::uint64_t>(node.type) << 8 |
                       std::uint64_t{node.clamped} << 16 | static_cast<std::uint64_t>(node.index) << 32;
  const auto mix = [&hash](std::uint64_t value) {
    hash = (std::rotl(hash, 27) ^ value) * 0x9E3779B97F4A7C15u;  // the golden ratio's bits spread neighbouring ids
  };
  for (NodeId operand : node.inputs()) mix(operand);
  mix(std::bit_cast<std::uint64_t>(node.value));
  return hash;
}

NodeId Graph::add(const Node& node) {
  const auto [entry, is_new] = known_.try_emplace(node, static_cast<NodeId>(nodes_.size()));
  if (is_new) nodes_.push_back(node);
  return entry->second;
}

NodeId Graph::add_constant(Type type, double value) {
  return add({.kind = Kind::constant, .type = type, .value = value});
}

NodeId Graph::add_literal(Type type, double value) {
  return add({.kind = Kind::literal, .type = type, .index = literal_count_++, .value = value});
}

NodeId Graph::add_coordinate(Coordinate coordinate) {
  return add({.kind = Kind::coordinate, .type = Type::int32, .index = static_cast<std::int32_t>(coordinate)});
}

NodeId Graph::add_score() { return add({.kind = Kind::score, .type = Type::real}); }

NodeId Graph::add_seed() { return add({.kind = Kind::seed, .type = Type::real}); }

namespace {
/// The place of `handle` in `handles`, where it is appended if new.
template <class Handle>
std::int32_t place_of(std::vector<Handle>& handles, const Handle& handle) {
  const auto found = std::find(handles.begin(), handles.end(), handle);
  const auto place = static_cast<std::int32_t>(found - handles.begin());
  if (found == handles.end()) handles.push_back(handle);
  return place;
}
}  // namespace

NodeId Graph::add_parameter(const Parameter& parameter) {
  return add({.kind = Kind::parameter, .type = parameter.type(), .index = place_of(parameters_, parameter)});
}

NodeId Graph::add_read(const Table& table, std::span<const NodeId> indices, bool clamped) {
  Node node{.kind = Kind::read,
            .type = table.type(),
            .operand_count = static_cast<std::uint8_t>(indices.size()),
            .clamped = clamped,
            .index = place_of(tables_, table)};
  std::copy(indices.begin(), indices.end(), node.operands.begin());
  return add(node);
}

NodeId Graph::import(const Graph& source, NodeId root, std::vector<NodeId>& renamed) {
  renamed.resize(source.size(), kNoNode);
  if (renamed[root] != kNoNode) return renamed[root];
  Node node = source[root];
  for (std::size_t i = 0; i < node.operand_count; ++i) node.operands[i] = import(source, node.operands[i], renamed);
  NodeId copy;
  switch (node.kind) {
    case Kind::literal: copy = add_literal(node.type, node.value); break;
    case Kind::parameter: copy = add_parameter(source.parameters_[static_cast<std::size_t>(node.index)]); break;
    case Kind::read:
      copy = add_read(source.tables_[static_cast<std::size_t>(node.index)], node.inputs(), node.clamped);
      break;
    default: copy = add(node);
  }
  return renamed[root] = copy;
}

std::vector<double> Graph::literals() const {
  std::vector<double> values;
  for (const Node& node : nodes_) {
    if (node.kind == Kind::literal) values.push_back(node.value);
  }
  return values;
}

}  // namespace tilewise::variant
