// The content key tells structures apart and nothing else.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tests/laws/random_variant.h"
#include "tests/laws/reading.h"
#include "tilewise/error.h"
#include "variant/operations/operations.h"

namespace tilewise::laws {
namespace {

using namespace variant;  // NOLINT(google-build-using-namespace): the laws look into graphs

RC_GTEST_PROP(Key, SameConstructionGivesTheSameKey, (const Choices& choices)) {
  Choices once = choices, again = choices;
  const Variant a = random_variant(once).variant, b = random_variant(again).variant;
  RC_ASSERT(a.key() == b.key());
  RC_ASSERT(a.key().size() == 32u);
}

RC_GTEST_PROP(Key, BuildingAgainFoldsNothingMore, (Choices choices)) {
  const Variant variant = random_variant(choices).variant;
  const Variant again = rebuilt(variant, {});
  RC_LOG() << "before:\n" << listing(variant) << "after:\n" << listing(again);
  RC_ASSERT(again.key() == variant.key());
  RC_ASSERT(again.literals() == variant.literals());
}

RC_GTEST_PROP(Key, IgnoresLiftedLiteralsValues, (Choices choices, Choices values)) {
  const Variant variant = random_variant(choices).variant;
  Replacement replacement;
  replacement.literal = [&](const Node& node) {
    if (node.type == Type::int32) return static_cast<double>(values.between(2, 1 << 30));
    return static_cast<double>(values.between(3, 1000)) / 2;
  };
  RC_ASSERT(rebuilt(variant, replacement).key() == variant.key());
}

RC_GTEST_PROP(Key, IgnoresNamesRangesExtentsAndContents, (Choices choices, Choices values)) {
  const Variant variant = random_variant(choices).variant;
  std::vector<std::pair<Table, Table>> tables;
  std::vector<std::pair<Parameter, Parameter>> parameters;
  for (const Table& table : variant.tables()) {
    Table other("other" + std::to_string(tables.size()), table.dtype(), table.rank());
    tables.emplace_back(table, values.once_in(2) ? other : other.values_in(-1e6, 1e6));
  }
  for (const Parameter& parameter : variant.parameters()) {
    const std::string name = "another" + std::to_string(parameters.size());
    parameters.emplace_back(parameter,
                            parameter.type() == Type::real ? Parameter(name) : Parameter::integer(name, -5, 5));
  }
  const auto replace = [](const auto& pairs, const auto& handle) {
    for (const auto& [old, replaced] : pairs) {
      if (old == handle) return replaced;
    }
    return handle;
  };
  Replacement replacement;
  replacement.table = [&](const Table& table) { return replace(tables, table); };
  replacement.parameter = [&](const Parameter& parameter) { return replace(parameters, parameter); };
  RC_ASSERT(rebuilt(variant, replacement).key() == variant.key());
}

/// What the key stands for, compared without hashing.
bool same_structure(const Variant& a, const Variant& b) {
  const auto nodes_of = [](const Variant& variant) {
    std::vector<Node> nodes = variant.data().graph.nodes();
    for (Node& node : nodes) {
      if (node.kind == Kind::literal) node.value = 0;
    }
    return nodes;
  };
  const auto dtypes_of = [](const Variant& variant) {
    std::vector<DType> dtypes;
    for (const Table& table : variant.tables()) dtypes.push_back(table.dtype());
    return dtypes;
  };
  const auto stages_of = [](const Variant& variant) {
    std::vector<std::pair<int, NodeId>> stages;
    for (const Stage& stage : variant.data().stages) stages.emplace_back(static_cast<int>(stage.kind), stage.root);
    return stages;
  };
  return nodes_of(a) == nodes_of(b) && dtypes_of(a) == dtypes_of(b) && stages_of(a) == stages_of(b) &&
         a.data().sink == b.data().sink && a.has_dropout() == b.has_dropout();
}

/// Another node of the same type in a node's place: other operation, coordinate, constant or way of reading.
Node mutated(Choices& choices, Node node) {
  switch (node.kind) {
    case Kind::read: node.clamped = !node.clamped; break;
    case Kind::coordinate: node.index = static_cast<std::int32_t>(choices.below(kCoordinates)); break;
    case Kind::constant: node.value = node.type == Type::boolean ? 1 - node.value : node.value + 1; break;
    case Kind::operation: {
      const Info& info = kInfo[static_cast<std::size_t>(node.index)];
      std::vector<std::int32_t> alike;
      for (std::int32_t number = 0; number < static_cast<std::int32_t>(kInfo.size()); ++number) {
        const Info& other = kInfo[static_cast<std::size_t>(number)];
        if (other.rule == info.rule && other.operands == info.operands && number != number_of<Power>)
          alike.push_back(number);
      }
      if (!alike.empty()) node.index = choices.any_of(alike);
      break;
    }
    default: break;
  }
  return node;
}

RC_GTEST_PROP(Key, TellsStructuresApart, (Choices choices, Choices values)) {
  const Variant variant = random_variant(choices).variant;
  RC_PRE(variant.data().graph.size() > 0);
  const std::size_t place = values.below(variant.data().graph.size());
  Replacement replacement;
  replacement.node = [&](NodeId id, const Node& node) { return id == place ? mutated(values, node) : node; };
  std::optional<Variant> other;
  try {
    other = rebuilt(variant, replacement);
  } catch (const Error&) {
    RC_DISCARD("a divisor became 0");
  }
  RC_LOG() << "one:\n" << listing(variant) << "other:\n" << listing(*other);
  RC_CLASSIFY(!same_structure(variant, *other), "told apart");
  RC_ASSERT((variant.key() == other->key()) == same_structure(variant, *other));
}

RC_GTEST_PROP(Key, TellsRolesApart, (Choices choices)) {
  const Options options;
  const World world = random_world(choices, options);
  const RandomPart part = random_part(choices, options, world, Role::sink);
  const Variant as_score = score([&](Expr s, const At&) { return s; });
  const Variant with_dropout = part.variant & dropout(0.5), twice = part.variant & as_score;
  RC_ASSERT(part.variant.key() != with_dropout.key());
  RC_ASSERT(part.variant.key() != twice.key());
  RC_ASSERT(with_dropout.key() == (part.variant & dropout(0.25)).key());
}

}  // namespace
}  // namespace tilewise::laws
