#include "variant/text/printer.h"

#include <fmt/format.h>

#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "variant/text/expression_printer.h"
#include "variant/text/number_text.h"
#include "variant/text/sharing.h"
#include "variant/text/words.h"

namespace tilewise {
namespace variant {
namespace {

/// Frozen tables of at most this many elements are written with their values; of larger ones the data has to be bound.
constexpr std::int64_t kMostValues = 64;

/// Gives names that no two things share and that are not reserved.
class NameGiver {
 public:
  /// Notes the names that are wanted, so that none of them is given to something that wanted another.
  template <class Handle>
  void note(const std::vector<Handle>& handles) {
    for (const Handle& handle : handles) ++wanted_[handle.name()];
  }

  /// The wanted name for the first that asks, then name_2, name_3, ...
  std::string name(const std::string& wanted) {
    if (!is_reserved(wanted) && given_.insert(wanted).second) return wanted;
    for (int& suffix = suffixes_.try_emplace(wanted, 1).first->second;;) {
      std::string name = fmt::format("{}_{}", wanted, ++suffix);
      if (!wanted_.contains(name) && given_.insert(name).second) return name;
    }
  }

  template <class Handle>
  std::vector<std::string> names(const std::vector<Handle>& handles) {
    std::vector<std::string> names;
    names.reserve(handles.size());
    for (const Handle& handle : handles) names.push_back(name(handle.name()));
    return names;
  }

  /// a, b, ..., z, a2, b2, ... without those that are taken.
  std::string letter() {
    for (;;) {
      const char letter = static_cast<char>('a' + letters_ % 26);
      const std::size_t round = letters_++ / 26;
      std::string name = round == 0 ? std::string(1, letter) : fmt::format("{}{}", letter, round + 1);
      if (!is_reserved(name) && !wanted_.contains(name) && given_.insert(name).second) return name;
    }
  }

 private:
  std::unordered_map<std::string, int> wanted_, suffixes_;
  std::unordered_set<std::string> given_;
  std::size_t letters_ = 0;
};

std::string range_text(double low, double high) {
  return fmt::format(" in [{}, {}]", bound_text(low), bound_text(high));
}

std::string parameter_text(const Parameter& parameter, const std::string& name) {
  std::string text = fmt::format("param {}: {}", name, to_string(parameter.type()));
  const Parameter any = parameter.type() == Type::real ? Parameter("any") : Parameter::integer("any");
  if (parameter.low() != any.low() || parameter.high() != any.high())
    text += range_text(parameter.low(), parameter.high());
  return text;
}

std::string frozen_text(const ConstTensor& data) {
  const auto* elements = static_cast<const std::byte*>(data.data);
  std::vector<std::string> values;
  for (std::int64_t i = 0; i < data.elements(); ++i)
    values.push_back(element_text(data.dtype, elements + i * size_of(data.dtype)));
  return fmt::format(" = [{}]", fmt::join(values, ", "));
}

std::string table_text(const Table& table, const std::string& name) {
  const auto frozen = table.frozen_data();
  const bool shows_values = frozen && frozen->elements() <= kMostValues;
  std::vector<std::string> extents;
  extents.reserve(kMaxRank);
  for (int axis = 0; axis < table.rank(); ++axis)
    extents.push_back(shows_values ? fmt::format("{}", frozen->extents[static_cast<std::size_t>(axis)]) : "?");
  std::string text = fmt::format("table {}: {}[{}]", name, to_string(table.dtype()), fmt::join(extents, ", "));
  // The range of values that are not shown goes along, so that what was provable stays so.
  const Table any("any", table.dtype(), table.rank());
  const bool says_something = table.type() == Type::real || table.low() != any.low() || table.high() != any.high();
  const bool stands_for_values = frozen && !shows_values && !table.info().may_hold_nan && says_something;
  if (table.has_declared_range() || stands_for_values) text += range_text(table.low(), table.high());
  return shows_values ? text + frozen_text(*frozen) : text;
}

/// Expressions of one graph, with the parts that they share.
class Printer {
 public:
  Printer(const Graph& graph, std::vector<NodeId> roots)
      : graph_(graph), roots_(std::move(roots)), home_(named_parts(graph, roots_)) {
    NameGiver names;
    names.note(graph.tables());
    names.note(graph.parameters());
    names_.tables = names.names(graph.tables());
    names_.parameters = names.names(graph.parameters());
    names_.parts.resize(graph.size());
    parts_of_root_.resize(roots_.size());
    for (NodeId id = 0; id < graph.size(); ++id) {
      if (home_[id] == kInline) continue;
      names_.parts[id] = names.letter();
      (home_[id] == kEverywhere ? parts_of_all_ : parts_of_root_[static_cast<std::size_t>(home_[id])]).push_back(id);
    }
  }

  std::string declarations() {
    std::string text;
    for (std::size_t i = 0; i < graph_.tables().size(); ++i)
      text += table_text(graph_.tables()[i], names_.tables[i]) + "; ";
    for (std::size_t i = 0; i < graph_.parameters().size(); ++i)
      text += parameter_text(graph_.parameters()[i], names_.parameters[i]) + "; ";
    return text + lets(parts_of_all_);
  }

  std::string root(std::size_t number, bool promoted) {
    return lets(parts_of_root_[number]) + expressions_.text(roots_[number], promoted);
  }

 private:
  std::string lets(const std::vector<NodeId>& parts) {
    std::string text;
    for (NodeId id : parts) text += fmt::format("let {} = {}; ", names_.parts[id], expressions_.definition(id));
    return text;
  }

  const Graph& graph_;
  std::vector<NodeId> roots_;
  std::vector<std::int32_t> home_;
  Names names_;
  std::vector<NodeId> parts_of_all_;                // in an order in which each needs earlier ones only
  std::vector<std::vector<NodeId>> parts_of_root_;  // likewise
  ExpressionPrinter expressions_{graph_, names_};
};

}  // namespace

std::string expression_text(const Graph& graph, NodeId root) { return Printer(graph, {root}).root(0, false); }

}  // namespace variant

using namespace variant;  // NOLINT(google-build-using-namespace): this file defines the public reading over it

std::string to_string(const Variant& variant) {
  const Variant::Data& data = variant.data();
  std::vector<NodeId> roots;
  for (const Stage& stage : data.stages) roots.push_back(stage.root);
  if (data.sink != kNoNode) roots.push_back(data.sink);

  Printer printer(data.graph, roots);
  std::vector<std::string> stages;
  for (std::size_t i = 0; i < data.stages.size(); ++i) {
    const bool keeps = data.stages[i].kind == Stage::Kind::keep;
    stages.push_back(fmt::format("{}({})", keeps ? "keep" : "score", printer.root(i, !keeps)));
  }
  if (data.sink != kNoNode) stages.push_back(fmt::format("sink({})", printer.root(data.stages.size(), true)));
  if (data.has_dropout) stages.push_back(fmt::format("dropout({})", bound_text(data.dropout_probability)));
  return stages.empty() ? "plain" : printer.declarations() + fmt::format("{}", fmt::join(stages, " & "));
}

}  // namespace tilewise
