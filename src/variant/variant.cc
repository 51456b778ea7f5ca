// Variants as values: made of one function, composed, reduced to canonical form.
#include "tilewise/variant.h"

#include <algorithm>
#include <cmath>

#include "core/fail.h"
#include "variant/build.h"
#include "variant/recording.h"

namespace tilewise {
namespace variant {

namespace {

template <class Function>
void expect_function(const Function& function, std::string_view what) {
  if (!function) fail_argument("{}: the function is empty, expected one to record", what);
}

/// What a user's function gives for `arguments`. An Error on the way says in which part of the variant it arose.
template <class Function, class... Arguments>
Expr recorded(std::string_view part, const Function& function, const Arguments&... arguments) {
  try {
    return function(arguments...);
  } catch (const Error& error) {
    fail(error.code(), "in {}: {}", part, error.what());
  }
}

void expect_bounded_depth(const Graph& graph, std::span<const NodeId> roots) {
  std::vector<std::size_t> depth(graph.size());
  for (NodeId id = 0; id < graph.size(); ++id) {
    for (NodeId operand : graph[id].inputs()) depth[id] = std::max(depth[id], depth[operand] + 1);
  }
  for (NodeId root : roots) {
    if (depth[root] > kMaxDepth) {
      fail_argument("an expression is {} operations deep, expected at most {}; keep long lists in a table", depth[root],
                    kMaxDepth);
    }
  }
}

}  // namespace

void expect_independent_of_entry(const Graph& graph, NodeId root, std::string_view what) {
  static constexpr std::string_view kExpected = "batch, head, kv_head, queries, keys, parameters and tables only";
  std::vector<bool> needed(root + 1, false);
  needed[root] = true;
  for (NodeId id = root + 1; id-- > 0;) {  // operands stand before what needs them
    if (!needed[id]) continue;
    const Node& node = graph[id];
    for (NodeId operand : node.inputs()) needed[operand] = true;
    if (node.kind == Kind::score || node.kind == Kind::seed)
      fail_argument("{} reads the score; expected {}", what, kExpected);
    if (node.kind == Kind::coordinate && static_cast<Coordinate>(node.index) <= Coordinate::key_token) {
      fail_argument("{} reads {}; expected {}", what, to_string(static_cast<Coordinate>(node.index)), kExpected);
    }
  }
}

Variant make_variant(const Graph& graph, std::vector<Stage> stages, NodeId sink, std::optional<double> dropout) {
  std::vector<NodeId> roots;
  for (Stage stage : stages) roots.push_back(stage.root);
  if (sink != kNoNode) roots.push_back(sink);
  expect_bounded_depth(graph, roots);
  auto data = std::make_shared<Variant::Data>();
  std::vector<NodeId> renamed;
  for (Stage stage : stages) data->stages.push_back({stage.kind, data->graph.import(graph, stage.root, renamed)});
  if (sink != kNoNode) data->sink = data->graph.import(graph, sink, renamed);
  data->has_dropout = dropout.has_value();
  data->dropout_probability = dropout.value_or(0);
  return Variant(std::move(data));
}

void append(Variant::Data& whole, const Variant::Data& part) {
  if (whole.sink != kNoNode && part.sink != kNoNode)
    fail_argument("operator &: both sides have a sink, expected at most one; write one sink with the joined logit");
  if (whole.has_dropout && part.has_dropout) fail_argument("operator &: both sides have dropout, expected at most one");
  std::vector<NodeId> renamed;
  for (Stage stage : part.stages)
    whole.stages.push_back({stage.kind, whole.graph.import(part.graph, stage.root, renamed)});
  if (part.sink != kNoNode) whole.sink = whole.graph.import(part.graph, part.sink, renamed);
  whole.has_dropout |= part.has_dropout;
  whole.dropout_probability += part.dropout_probability;  // the other's is 0
}

}  // namespace variant

using namespace variant;  // NOLINT(google-build-using-namespace): this file defines the public values over it

const char* to_string(Type type) {
  switch (type) {
    case Type::boolean: return "bool";
    case Type::int32: return "int";
    case Type::real: return "real";
  }
  return "unknown";
}

Variant::Variant() : data_(std::make_shared<const Data>()) {}
std::vector<double> Variant::literals() const { return data_->graph.literals(); }
const std::vector<Table>& Variant::tables() const { return data_->graph.tables(); }
const std::vector<Parameter>& Variant::parameters() const { return data_->graph.parameters(); }
bool Variant::has_sink() const { return data_->sink != kNoNode; }
bool Variant::has_dropout() const { return data_->has_dropout; }

Variant keep(const std::function<Expr(const At&)>& function) {
  expect_function(function, "keep()");
  Recording recording;
  const NodeId root = recording.node_of(recorded("keep()", function, recording.at()));
  if (const Type type = recording.graph()[root].type; type != Type::boolean) {
    fail_argument("keep(): the function gives {}, expected bool; use score(...) to change scores", to_string(type));
  }
  return make_variant(recording.graph(), {{Stage::Kind::keep, root}}, kNoNode, {});
}

Variant score(const std::function<Expr(Expr, const At&)>& function) {
  expect_function(function, "score()");
  Recording recording;
  const Expr score = recording.handle(recording.graph().add_score());
  const NodeId root = recording.node_of(recorded("score()", function, score, recording.at()));
  const NodeId real = make_real(recording.graph(), root, "score(): the function's result");
  return make_variant(recording.graph(), {{Stage::Kind::score, real}}, kNoNode, {});
}

Variant sink(const std::function<Expr(const At&)>& logit) {
  expect_function(logit, "sink()");
  Recording recording;
  const NodeId root = recording.node_of(recorded("sink()", logit, recording.at()));
  const NodeId real = make_real(recording.graph(), root, "sink(): the logit");
  expect_independent_of_entry(recording.graph(), real, "sink(): the logit");
  return make_variant(recording.graph(), {}, real, {});
}

Variant dropout(double probability) {
  if (!(probability >= 0 && probability <= 1))
    fail_argument("dropout(): the probability is {}, expected 0 to 1", probability);
  return make_variant({}, {}, kNoNode, probability);
}

Variant operator&(const Variant& a, const Variant& b) {
  Variant::Data whole;
  append(whole, a.data());
  append(whole, b.data());
  const auto probability = whole.has_dropout ? std::optional(whole.dropout_probability) : std::nullopt;
  return make_variant(whole.graph, whole.stages, whole.sink, probability);
}

}  // namespace tilewise
