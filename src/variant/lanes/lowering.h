// Makes lane programs: values in static single assignment, each in the narrowest class, then registers.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "variant/graph.h"
#include "variant/hoist.h"
#include "variant/lanes/program.h"

namespace tilewise::variant {

class Lowering {
 public:
  using ValueId = std::uint32_t;

  /// Keeps a reference to the graph. Throws Error where a tile's largest extents are not positive.
  Lowering(const Graph& graph, const LaneOptions& options);

  /// The value of a node, with the score leaf standing for the current score.
  ValueId lower(NodeId node) { return lower_in(node, Hoist::entry); }

  /// lower() of a score's gradient, `node` being an adjoint's `d_score`. Where that is a chain of products and
  /// quotients of the seed, as mostly, it is one pass: the seed times what is hoisted, with reciprocals for divisors,
  /// times what is of the entry. So its roundings are as many as the graph's and not the same; a seed of 0 gives
  /// exactly 0.
  ValueId lower_gradient(NodeId node);

  /// The score that nodes lowered from now on see; at first the tile's.
  ValueId score() const { return score_; }
  void set_score(ValueId value);

  /// Likewise the seed.
  ValueId seed() const { return seed_; }
  void set_seed(ValueId value);

  /// What nodes are known to be under the current score; set_view goes back to that score.
  struct View {
    ValueId score;
    std::vector<std::array<ValueId, 5>> known;
  };
  View view() const { return {score_, known_}; }
  void set_view(const View& view);

  /// An operation of the list on values of one type (see StripOperations for `real`).
  template <class O>
  ValueId operation(bool real, std::initializer_list<ValueId> operands) {
    const ValueId value = strip(operations_.operation[number_of<O>][real ? 1 : 0], operands);
    values_[value].real_operation = real ? number_of<O> : kNoOperation;
    return value;
  }
  ValueId real_constant(double value);
  ValueId int_constant(std::int32_t value);
  ValueId settle(ValueId score);
  ValueId settle_kept(ValueId keep, ValueId score) { return strip(operations_.settle_kept, {keep, score}); }

  /// `score` where `keep`, else -inf: comparisons that `keep` is a conjunction of are made in the same pass, where
  /// their operands are hoisted.
  ValueId keep_where(ValueId keep, ValueId score);

  /// The class whose strip holds a value.
  Hoist class_of(ValueId value) const { return values_[value].domain; }

  /// The affine form of a node that is an int.
  Affine form_of(NodeId node) const { return dependences_[node].form; }

  /// The program that computes `outputs` and what they need, and keeps the values `strips`, which are not of the class
  /// `entry`, in its registers. Nothing can be lowered afterwards.
  LaneProgram finish(std::span<const ValueId> outputs, std::span<const ValueId> strips = {});

  /// Two programs, for what is computed before the seed is known and for the rest: the first one's outputs are `before`
  /// and then all values at entries that the second one takes over, as its inputs; the second one's are `after`.
  struct Parts {
    LaneProgram before, after;
  };
  Parts split(std::span<const ValueId> before, std::span<const ValueId> after, std::span<const ValueId> strips) const;

 private:
  static constexpr std::int32_t kNoOperation = -1;
  struct Value {
    Hoist domain = Hoist::entry;
    LaneInstruction instruction;                 // its slots are set by finish()
    std::int32_t real_operation = kNoOperation;  // its number, where it is one of the list on reals
    std::array<ValueId, kMostLaneOperands> operands{};
  };
  static constexpr ValueId kNone = ~ValueId{0};

  /// Ints x of keys, y and z of queries: x - y < z, or not. A uniform value counts as either.
  struct KeptTerm {
    ValueId x, y, z;
    bool is_inverted;
  };

  ValueId lower_in(NodeId id, Hoist domain);
  std::optional<ValueId> lower_tanh(const Node& node);
  ValueId reciprocal(ValueId value) { return strip(operations_.fused.reciprocal, {value}); }
  bool is_operation(NodeId id, std::int32_t number) const;
  NodeId inside_guard(NodeId gradient) const;
  StripFunction holds_and(StripFunction function) const;
  bool does(ValueId value, std::int32_t number) const {
    return values_[value].instruction.function == operations_.operation[number][0];
  }
  bool is_of_keys(ValueId value) const { return class_of(value) == Hoist::key || class_of(value) == Hoist::uniform; }
  bool is_of_queries(ValueId value) const {
    return class_of(value) == Hoist::query || class_of(value) == Hoist::uniform;
  }
  void add_kept_parts(ValueId keep, std::vector<ValueId>& parts) const;
  std::optional<KeptTerm> kept_term(ValueId keep);
  KeptTerm kept_bools(std::optional<ValueId> of_keys, std::optional<ValueId> of_queries);
  ValueId keep_where(std::span<KeptTerm> terms, ValueId rest, ValueId score);
  std::optional<std::pair<ValueId, ValueId>> difference_of(ValueId value);
  KeptTerm compared(std::int32_t comparison, ValueId x, ValueId y, ValueId z);
  void fuse(std::span<const ValueId> outputs);
  bool only_adds_read(std::span<const LaneInstruction> at_entries) const;
  ValueId leaf(const Node& node, Hoist domain);
  ValueId add(Hoist domain, const LaneInstruction& instruction, std::span<const ValueId> operands);
  ValueId strip(StripFunction function, std::initializer_list<ValueId> operands);
  IndexStep step_of(NodeId index, Hoist domain) const;

  std::vector<bool> needed_for(std::span<const ValueId> outputs) const;
  void direct_outputs(std::vector<ValueId>& outputs);
  std::vector<ValueId> taken_over(std::span<const ValueId> after) const;
  void assign_registers(const std::vector<bool>& needed, std::span<const ValueId> strips, LaneProgram& program);
  void lay_out(LaneProgram& program, const std::array<std::uint32_t, kRegisterSpaces>& registers) const;
  void lay_out_kept(const std::vector<bool>& is_kept, std::uint32_t registers, LaneProgram& program) const;
  bool is_external(ValueId value) const { return values_[value].instruction.result.space >= Space::score; }

  const Graph& graph_;
  LaneOptions options_;
  const StripOperations& operations_;
  std::vector<Dependence> dependences_;        // [nodes]
  std::vector<bool> sees_score_, sees_seed_;   // [nodes]
  std::vector<bool> is_of_entries_;            // [nodes], by its operands: without hoisting, too
  std::vector<std::array<ValueId, 5>> known_;  // [nodes][class]
  std::vector<Value> values_;
  ValueId score_ = kNone, seed_ = kNone;
};

}  // namespace tilewise::variant
