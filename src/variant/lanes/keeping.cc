// The end of a program that masks: a conjunction of comparisons, and the scores where it holds.
#include <algorithm>
#include <limits>

#include "variant/lanes/lowering.h"
#include "variant/operations/operations.h"

namespace tilewise::variant {
namespace {

constexpr std::int32_t kLeastInt = std::numeric_limits<std::int32_t>::min();

constexpr std::int32_t kComparisons[] = {number_of<Equal>,     number_of<NotEqual>, number_of<Less>,
                                         number_of<LessEqual>, number_of<Greater>,  number_of<GreaterEqual>};

/// The comparison of b and a that holds where this one of a and b does.
std::int32_t mirrored(std::int32_t comparison) {
  if (comparison == number_of<Less>) return number_of<Greater>;
  if (comparison == number_of<Greater>) return number_of<Less>;
  if (comparison == number_of<LessEqual>) return number_of<GreaterEqual>;
  if (comparison == number_of<GreaterEqual>) return number_of<LessEqual>;
  return comparison;
}

}  // namespace

/// The operands of a conjunction at entries, of which some may be such conjunctions themselves.
void Lowering::add_kept_parts(ValueId keep, std::vector<ValueId>& parts) const {
  if (class_of(keep) != Hoist::entry || !does(keep, number_of<Conjunction>)) return parts.push_back(keep);
  for (const ValueId part : {values_[keep].operands[0], values_[keep].operands[1]}) add_kept_parts(part, parts);
}

/// x and y, of keys and of queries, that `value` is x - y of.
std::optional<std::pair<Lowering::ValueId, Lowering::ValueId>> Lowering::difference_of(ValueId value) {
  if (class_of(value) == Hoist::key) return std::pair(value, int_constant(0));
  if (class_of(value) != Hoist::entry || !does(value, number_of<Subtraction>)) return {};
  const auto [a, b] = std::pair(values_[value].operands[0], values_[value].operands[1]);
  if (is_of_keys(a) && is_of_queries(b)) return std::pair(a, b);
  if (!is_of_queries(a) || !is_of_keys(b)) return {};
  return std::pair(operation<Negation>(false, {b}), operation<Negation>(false, {a}));
}

/// The term for a comparison of x - y and z. Ints wrap: ~n = -1 - n turns their order around, and 2^31 more makes 0 the
/// least of them, the only one below 1 - 2^31.
Lowering::KeptTerm Lowering::compared(std::int32_t comparison, ValueId x, ValueId y, ValueId z) {
  if (comparison == number_of<Less> || comparison == number_of<GreaterEqual>)
    return {x, y, z, comparison == number_of<GreaterEqual>};
  if (comparison == number_of<Greater> || comparison == number_of<LessEqual>) {
    return {operation<BitNot>(false, {x}), operation<Negation>(false, {y}), operation<BitNot>(false, {z}),
            comparison == number_of<LessEqual>};
  }
  const ValueId sum = operation<Addition>(false, {y, z});
  return {x, operation<Addition>(false, {sum, int_constant(kLeastInt)}), int_constant(kLeastInt + 1),
          comparison == number_of<NotEqual>};
}

/// The term for bools of keys and of queries, of which one may not be there. One that holds is -1.
Lowering::KeptTerm Lowering::kept_bools(std::optional<ValueId> of_keys, std::optional<ValueId> of_queries) {
  if (!of_queries) return {*of_keys, int_constant(0), int_constant(0), false};
  const ValueId negated = operation<Negation>(false, {*of_queries});
  return {of_keys ? *of_keys : int_constant(-1), negated, int_constant(-1), false};
}

std::optional<Lowering::KeptTerm> Lowering::kept_term(ValueId keep) {
  if (class_of(keep) != Hoist::entry) return {};
  for (const std::int32_t comparison : kComparisons) {
    if (!does(keep, comparison)) continue;
    const auto [a, b] = std::pair(values_[keep].operands[0], values_[keep].operands[1]);
    for (const bool is_mirrored : {false, true}) {
      const ValueId of_queries = is_mirrored ? a : b;
      if (!is_of_queries(of_queries)) continue;
      if (const auto difference = difference_of(is_mirrored ? b : a)) {
        return compared(is_mirrored ? mirrored(comparison) : comparison, difference->first, difference->second,
                        of_queries);
      }
    }
  }
  return {};
}

Lowering::ValueId Lowering::keep_where(ValueId keep, ValueId score) {
  if (options_.layout != TileLayout::queries_inner)
    return operation<Selection>(true, {keep, score, real_constant(-std::numeric_limits<double>::infinity())});
  std::vector<ValueId> parts;
  add_kept_parts(keep, parts);
  std::vector<KeptTerm> terms;
  std::optional<ValueId> of_keys, of_queries, rest;
  for (const ValueId part : parts) {
    const auto join = [&](std::optional<ValueId>& all) {
      all = all ? operation<Conjunction>(false, {*all, part}) : part;
    };
    if (is_of_keys(part))
      join(of_keys);
    else if (is_of_queries(part))
      join(of_queries);
    else if (const auto term = kept_term(part))
      terms.push_back(*term);
    else
      join(rest);
  }
  if (of_keys || of_queries) terms.push_back(kept_bools(of_keys, of_queries));
  std::span<KeptTerm> left = terms;
  for (; left.size() > kMostKeptTerms; left = left.subspan(kMostKeptTerms))
    score = keep_where(left.first(kMostKeptTerms), int_constant(-1), score);
  return keep_where(left, rest ? *rest : int_constant(-1), score);
}

/// One pass.
Lowering::ValueId Lowering::keep_where(std::span<KeptTerm> terms, ValueId rest, ValueId score) {
  const auto inverted = std::ranges::stable_partition(terms, [](const KeptTerm& term) { return !term.is_inverted; });
  std::vector<ValueId> operands{score, rest};
  for (const KeptTerm& term : terms) operands.insert(operands.end(), {term.x, term.y, term.z});
  LaneInstruction instruction;
  instruction.function = operations_.fused.kept[terms.size()][inverted.size()];
  return add(Hoist::entry, instruction, operands);
}

}  // namespace tilewise::variant
