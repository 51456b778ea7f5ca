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

NodeId Graph::add_scale() { return add({.kind = Kind::scale, .type = Type::real}); }

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

NodeId Graph::add_copy(const Graph& source, Node node, const std::vector<NodeId>& renamed) {
  for (std::size_t i = 0; i < node.operand_count; ++i) node.operands[i] = renamed[node.operands[i]];
  const auto index = static_cast<std::size_t>(node.index);
  switch (node.kind) {
    case Kind::literal: return add_literal(node.type, node.value);
    case Kind::parameter: return add_parameter(source.parameters_[index]);
    case Kind::read: return add_read(source.tables_[index], node.inputs(), node.clamped);
    default: return add(node);
  }
}

NodeId Graph::import(const Graph& source, NodeId root, std::vector<NodeId>& renamed) {
  renamed.resize(source.size(), kNoNode);
  std::vector<NodeId> path{root};  // instead of recursion: a long sum is deeper than a thread's stack
  while (!path.empty()) {
    const Node& node = source[path.back()];
    const auto inputs = node.inputs();
    const auto is_missing = [&renamed](NodeId operand) { return renamed[operand] == kNoNode; };
    if (const auto missing = std::find_if(inputs.begin(), inputs.end(), is_missing); missing != inputs.end()) {
      path.push_back(*missing);
      continue;
    }
    if (is_missing(path.back())) renamed[path.back()] = add_copy(source, node, renamed);
    path.pop_back();
  }
  return renamed[root];
}

std::vector<double> Graph::literals() const {
  std::vector<double> values;
  for (const Node& node : nodes_) {
    if (node.kind == Kind::literal) values.push_back(node.value);
  }
  return values;
}

}  // namespace tilewise::variant
