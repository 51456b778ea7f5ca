// Values of a graph compiled for the interval reading: a straight line of instructions over interval registers.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "variant/graph.h"
#include "variant/interval.h"
#include "variant/range_index.h"

namespace tilewise::variant {

/// What is known of a table.
struct TableBounds {
  TableIndex extents{};            // [rank]
  std::optional<BoundTable> data;  // where given, reads are bounded by range minima and maxima of it
  Interval range = kAnyReal;       // else by this
};

/// What is known of a graph's slots.
struct SlotBounds {
  std::vector<TableBounds> tables;   // [graph.tables()]
  std::vector<Interval> parameters;  // [graph.parameters()]
  std::vector<double> literals;      // [slots]
};

/// What a call's bindings say: tables by their data, parameters by their values.
SlotBounds bounds_of(const Graph& graph, const Bound& bound);

/// The values that a table declares, whatever is bound to it.
Interval declared_range(const Table& table);

/// Number of a value in a program.
using Register = std::uint32_t;
inline constexpr Register kNoRegister = ~Register{0};

/// Boxes are evaluated this many at a time: that shares the dispatch and hides the latency of dependent operations.
inline constexpr std::size_t kLanes = 4;

/// A read of a table: by range index, or where that is null within `range`.
struct IntervalRead {
  const RangeIndex* index = nullptr;
  std::array<double, kMaxRank> last{};  // [rank], each axis' last index
  Interval range;
};

/// Which instructions give one of their operands unchanged once another is decided.
enum class Forwards : std::uint8_t {
  never,
  beside_true,   // a and true is a
  beside_false,  // a or false is a
  by_condition,  // select(true, a, b) is a
};

struct Instruction {
  /// Computes registers[result + lane] from registers[operand + lane], for each of kLanes lanes.
  using Function = void (*)(const Instruction& instruction, Interval* registers);
  Function function = nullptr;
  std::uint32_t result = 0;                            // in units of lanes: register * kLanes
  std::array<std::uint32_t, kMaxOperands> operands{};  // likewise
  std::uint8_t operand_count = 0;
  Forwards forwards = Forwards::never;
  const IntervalRead* read = nullptr;  // of a read
};

/// How often a value must be computed anew.
enum class Rate : std::uint8_t {
  once,   // constants, literals, parameters and what follows from them alone
  head,   // what depends on the sequence or the head
  query,  // what depends on the query as well
  key,    // or on the key
  box,    // on both
};

/// A compiled program. Constant; may be shared between threads. Data of tables that it reads must stay.
struct IntervalProgram {
  struct CoordinateRegister {
    Coordinate coordinate;
    Register number;
  };
  std::vector<Instruction> of_head, of_box;          // operands first; of a box by rate
  std::vector<CoordinateRegister> coordinates;       // that the program reads
  std::vector<Interval> initial;                     // [registers * kLanes]: values of rate `once` are in place
  std::vector<Rate> rates;                           // [registers]
  std::vector<Register> wanted;                      // what the program is for
  std::vector<std::unique_ptr<IntervalRead>> reads;  // instructions point to them
  std::vector<std::unique_ptr<RangeIndex>> indexes;  // only of tables that the program reaches

  /// Makes `registers` all that is wanted and leaves out what they do not need. The numbers of registers stay.
  void keep_only(std::span<const Register> registers);
};

/// Compiles chosen values of a graph.
class IntervalProgramBuilder {
 public:
  /// Keeps references to both.
  IntervalProgramBuilder(const Graph& graph, const SlotBounds& slots);

  /// The register of a node's value where the score leaf has the value of register `score`. What does not depend on the
  /// score is shared. Without a score register the leaf, and the adjoint's seed always, may be any real.
  Register add(NodeId node, Register score = kNoRegister);

  /// The register of a known value.
  Register add_known(const Interval& value);

  /// The register of an operation on registers; `operand_type` is the type of its last operand.
  Register add_operation(std::int32_t number, Type operand_type, std::span<const Register> operands);

  /// The register of any other function of registers.
  Register add_function(Instruction::Function function, std::span<const Register> operands);

  /// The program of all that was added. The builder must not be used again.
  IntervalProgram finish();

 private:
  Register make_register(Rate rate, const Interval& value);
  Register add_instruction(Instruction instruction, std::span<const Register> operands);
  Register add_read(const Node& node, std::span<const Register> operands);
  Register add_coordinate(Coordinate coordinate);
  Register compile(const Node& node, Register score);
  void make_indexes();

  const Graph& graph_;
  const SlotBounds& slots_;
  std::vector<bool> reads_score_;                                // [nodes]
  std::map<std::pair<NodeId, Register>, Register> compiled_;     // by node and score register
  std::vector<std::pair<std::size_t, std::int32_t>> unindexed_;  // (place in program_.reads, table)
  std::vector<std::array<bool, kMaxRank>> wide_;                 // [graph.tables()]
  std::vector<Instruction> once_;
  IntervalProgram program_;
};

}  // namespace tilewise::variant
