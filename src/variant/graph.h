// The recorded form of a variant: a typed, hash-consed expression graph.
//
// Nodes are stored operands first, so a reading is one loop over `nodes()`. Leaves say where a value comes from;
// every inner node is an operation of `operations.h`, or a read of a table.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "tilewise/variant.h"

namespace tilewise::variant {

using NodeId = std::uint32_t;
inline constexpr NodeId kNoNode = ~NodeId{0};

inline constexpr int kMaxOperands = kMaxRank;  // a read of a four-dimensional table; operations have at most three

/// What a node is. Values are part of the content key: append, never renumber.
enum class Kind : std::uint8_t {
  constant = 0,    // a value that shapes the code, part of the key
  literal = 1,     // index: its slot. A lifted literal: its value is bound at the call, only the slot is in the key
  parameter = 2,   // index: into Graph::parameters
  coordinate = 3,  // index: a Coordinate
  score = 4,       // the score that enters a stage
  seed = 5,        // the adjoint that enters a stage's derivative: d(loss)/d(the stage's result)
  read = 6,        // index: into Graph::tables; operands are the indices
  operation = 7,   // index: position in the list of operations
  scale = 8,       // what q.k is multiplied by, where Kind::score is q.k: in graphs that kernels make (rearranged.h)
};

/// The fields of At, in its order.
enum class Coordinate : std::uint8_t {
  query,
  key,
  query_index,
  key_index,
  query_token,
  key_token,
  queries,
  keys,
  batch,
  head,
  kv_head
};
inline constexpr int kCoordinates = 11;

/// "query", "key_index", ...: as in the textual form.
const char* to_string(Coordinate coordinate);

struct Node {
  Kind kind = Kind::constant;
  Type type = Type::int32;
  std::uint8_t operand_count = 0;
  bool clamped = false;    // a read that clamps its indices
  std::int32_t index = 0;  // see Kind
  std::array<NodeId, kMaxOperands> operands{};
  double value = 0;  // constants and literals; 0 or 1 for a bool

  std::span<const NodeId> inputs() const { return {operands.data(), operand_count}; }
  bool is_constant() const { return kind == Kind::constant; }
  bool is_constant(double number) const { return is_constant() && value == number; }

  friend bool operator==(const Node& a, const Node& b) {
    return a.kind == b.kind && a.type == b.type && a.operand_count == b.operand_count && a.clamped == b.clamped &&
           a.index == b.index && a.operands == b.operands &&
           std::bit_cast<std::uint64_t>(a.value) == std::bit_cast<std::uint64_t>(b.value);
  }
};

class Graph {
 public:
  const Node& operator[](NodeId id) const { return nodes_[id]; }
  const std::vector<Node>& nodes() const { return nodes_; }
  const std::vector<Table>& tables() const { return tables_; }
  const std::vector<Parameter>& parameters() const { return parameters_; }
  std::size_t size() const { return nodes_.size(); }

  /// Adds a node, or returns the equal one that is already there. Literals are never merged: two that are equal today
  /// may be bound to different values tomorrow, and the key must not depend on today's.
  NodeId add(const Node& node);

  NodeId add_constant(Type type, double value);
  NodeId add_literal(Type type, double value);
  NodeId add_coordinate(Coordinate coordinate);
  NodeId add_score();
  NodeId add_seed();
  NodeId add_scale();
  NodeId add_parameter(const Parameter& parameter);
  NodeId add_read(const Table& table, std::span<const NodeId> indices, bool clamped);

  /// Copies what `roots` need from another graph, in depth-first order, and returns their new ids. Nodes that this
  /// graph already has are shared, literals keep their values. `renamed`, where given, carries the copies made by
  /// earlier calls from the same source, so that literals shared between roots stay shared.
  NodeId import(const Graph& source, NodeId root, std::vector<NodeId>& renamed);

  /// The literals' values in slot order. A literal's slot is its place among the literals in node order.
  std::vector<double> literals() const;

 private:
  struct Hash {
    std::size_t operator()(const Node& node) const;
  };
  NodeId add_copy(const Graph& source, Node node, const std::vector<NodeId>& renamed);

  std::vector<Node> nodes_;
  std::unordered_map<Node, NodeId, Hash> known_;
  std::vector<Table> tables_;
  std::vector<Parameter> parameters_;
  std::int32_t literal_count_ = 0;
};

/// One stage of a variant: a predicate that removes entries, or a function that replaces the score.
struct Stage {
  enum class Kind : std::uint8_t { keep, score };
  Kind kind;
  NodeId root;
};

}  // namespace tilewise::variant

namespace tilewise {

/// What a Variant holds: a canonical graph (only live nodes, in depth-first order from the stages and the sink).
struct Variant::Data {
  variant::Graph graph;
  std::vector<variant::Stage> stages;       // in order of application
  variant::NodeId sink = variant::kNoNode;  // a real, or none
  bool has_dropout = false;
  double dropout_probability = 0;  // lifted like a literal: not part of the key
};

/// What a Parameter holds.
struct Parameter::Info {
  std::string name;
  Type type;
  double low, high;
};

/// What a Table holds.
struct Table::Info {
  std::string name;
  DType dtype;
  int rank;
  double low, high;                                        // declared, or found in frozen data, or the dtype's
  bool may_hold_nan = true;                                // false where a declared range or frozen data rules it out
  bool declared_range = false;                             // low and high were given by values_in
  std::shared_ptr<const std::vector<std::byte>> frozen{};  // contiguous, row-major; null for a table to be bound
  std::array<std::int64_t, kMaxRank> extents{};            // of the frozen data
};

}  // namespace tilewise
