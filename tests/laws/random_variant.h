// Random variants, with data for what they read, and random problems, entries and boxes to read them at.
//
// Operations are drawn from kInfo by their rules, so a new one joins by itself.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/laws/choices.h"
#include "tilewise/problem.h"
#include "tilewise/variant.h"
#include "variant/graph.h"
#include "variant/place.h"

namespace tilewise::laws {

/// All dtypes that a table may have.
inline constexpr std::array kTableDTypes{DType::float32, DType::int32,    DType::boolean, DType::float64,
                                         DType::float16, DType::bfloat16, DType::int64,   DType::uint8};

struct Options {
  int depth = 5;               // of operations above a leaf
  int nodes = 32;              // operations and reads of one expression, about
  int stages = 3;              // at most
  bool transcendental = true;  // operations whose readings may differ by their stated errors
  bool infinite = true;        // +-inf among constants and in tables
  bool nan = true;             // NaN in tables
  bool wild_ints = true;       // ints whose sums wrap, among literals, constants, parameters and tables
  std::span<const DType> dtypes = kTableDTypes;  // of tables
};

/// What a call binds: a table with its data, a parameter with its value.
struct BoundData {
  Table table;
  ConstTensor data;                                // strided, over `memory`
  std::shared_ptr<std::vector<std::byte>> memory;  // owns what `data` and `writable` see
  Tensor writable() const;                         // the same view, to change entries
};

/// The tables and parameters that an expression may read, and what is bound to them.
struct World {
  std::vector<BoundData> tables;
  std::vector<ParameterBinding> parameters;

  /// Bindings of what the graph reads, frozen tables left out.
  Bindings bindings_for(const variant::Graph& graph) const;
  Bindings bindings_for(const Variant& variant) const { return bindings_for(variant.data().graph); }
};

/// The same expression built twice: as recording builds it (folded), and node by node with nothing folded. Their
/// literals have different slots.
struct Expression {
  variant::Graph raw, folded;
  variant::NodeId raw_root = variant::kNoNode, folded_root = variant::kNoNode;
};

/// Where an expression stands decides what it may read.
enum class Role : std::uint8_t { keep, score, sink };

struct RandomPart {
  Role role;
  Expression expression;
  Variant variant;  // of this part alone
};

struct RandomVariant {
  World world;
  std::vector<RandomPart> parts;  // in order; a sink, where there is one, is the last
  Variant variant;                // all of them composed, and sometimes dropout

  Bindings bindings() const { return world.bindings_for(variant); }
};

/// Up to three tables of random rank, dtype, extents, strides and contents, some of them frozen, some with a declared
/// range; up to three parameters.
World random_world(Choices& choices, const Options& options);

/// An expression of the type. A sink's reads neither position nor score, a keep's no score.
Expression random_expression(Choices& choices, const Options& options, const World& world, Role role, Type type);

RandomPart random_part(Choices& choices, const Options& options, const World& world, Role role);

/// At least one keep or score, at most `options.stages` of them, sometimes a sink, sometimes dropout.
RandomVariant random_variant(Choices& choices, const Options& options = {});

/// One to three sequences, most of them below a hundred entries long, some very long, with offsets.
Problem random_problem(Choices& choices);

/// A sequence, head and indices of an entry of the problem; the problem's first sequence is not empty.
struct Entry {
  std::int64_t sequence, head, query_index, key_index;
};
Entry random_entry(Choices& choices, const Problem& problem);

/// A box that is not empty, of entries of the sequence, often of a power of two's size; the sequence has entries.
Box random_box(Choices& choices, const Sequence& sequence);

/// An entry of the box.
Entry random_entry_of(Choices& choices, std::int64_t sequence, std::int64_t head, const Box& box);

/// Coordinates of an entry of a random problem; sometimes any ints.
variant::Place random_place(Choices& choices);

/// A score that float32 holds: finite.
float random_score(Choices& choices);

/// The nodes that a root needs, one a line: for the reports of failing laws.
std::string listing(const variant::Graph& graph, variant::NodeId root);

/// The stages and the sink of a variant, as listings, with the literals.
std::string listing(const Variant& variant);

}  // namespace tilewise::laws
