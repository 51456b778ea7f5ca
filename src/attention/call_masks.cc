#include "attention/call_masks.h"

#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "attention/check_plan.h"
#include "attention/planned_mask.h"
#include "core/element.h"
#include "tiles/reads.h"
#include "variant/operations/operations.h"

namespace tilewise::attention {
namespace {

using variant::Kind;
using variant::Node;
using variant::NodeId;

/// What a graph's values follow from.
struct Dependences {
  explicit Dependences(const variant::Graph& graph) : follows_bindings(graph.size()) {
    for (NodeId id = 0; id < graph.size(); ++id) {
      const Node& node = graph[id];
      const auto inputs = node.inputs();
      follows_bindings[id] =
          node.kind == Kind::parameter ||
          (node.kind == Kind::read && !graph.tables()[static_cast<std::size_t>(node.index)].frozen_data()) ||
          std::any_of(inputs.begin(), inputs.end(), [&](NodeId input) { return follows_bindings[input]; });
    }
  }
  std::vector<bool> follows_bindings;  // [nodes]
};

/// Marks what `root` is made of.
void mark_parts(const variant::Graph& graph, NodeId root, std::vector<bool>& parts) {
  parts[root] = true;
  for (NodeId id = root + 1; id-- > 0;) {  // operands come before what uses them
    if (!parts[id]) continue;
    for (const NodeId input : graph[id].inputs()) parts[input] = true;
  }
}

/// Whether a score can be made -inf by something else than a number of that kind in what is bound, or an overflow.
bool can_remove_by_itself(const variant::Graph& graph, const std::vector<bool>& parts,
                          const std::vector<bool>& follows_bindings) {
  for (NodeId id = 0; id < graph.size(); ++id) {
    if (!parts[id]) continue;
    const Node& node = graph[id];
    if (node.is_constant() && std::isinf(node.value)) return true;
    const bool is_logarithm = node.kind == Kind::operation && (node.index == variant::number_of<variant::Logarithm> ||
                                                               node.index == variant::number_of<variant::Logarithm2>);
    if (is_logarithm && follows_bindings[id]) return true;
  }
  return false;
}

/// Elements that are looked at along each of the last two axes: one of so many. Every tile of 64 x 64 has some.
constexpr std::int64_t kSampleStep = 32;

/// Whether a sample of a table's elements holds -inf.
bool holds_minus_infinity(const variant::BoundTable& table) {
  if (table.is_empty()) return false;
  std::array<std::int64_t, kMaxRank> index{};
  const auto rank = static_cast<std::size_t>(table.rank);
  for (std::size_t axis = rank;;) {
    const double value = load_real(table.address(std::span(index.data(), rank)), table.dtype);
    if (value == -std::numeric_limits<double>::infinity()) return true;
    for (axis = rank; axis-- > 0;) {
      index[axis] += axis + 2 >= rank ? kSampleStep : 1;
      if (index[axis] < table.extents[axis]) break;
      index[axis] = 0;
    }
    if (axis == static_cast<std::size_t>(-1)) return false;
  }
}

/// A hash of bytes, fed piece by piece.
class Hash {
 public:
  Hash() { XXH3_128bits_reset(&state_); }
  void add(const void* bytes, std::size_t size) { XXH3_128bits_update(&state_, bytes, size); }
  template <class Number>
  void add(Number number) {
    add(&number, sizeof number);
  }
  std::array<std::uint64_t, 2> value() const {
    const XXH128_hash_t hash = XXH3_128bits_digest(&state_);
    return {hash.low64, hash.high64};
  }

 private:
  XXH3_state_t state_;
};

/// A hash of all that a mask follows from, whatever a call's lengths; nothing where a table's elements do not lie in
/// one piece.
std::optional<std::array<std::uint64_t, 2>> content_of(const Variant& variant, const variant::Call& call) {
  Hash hash;
  for (std::size_t i = 0; i < call.bound.tables.size(); ++i) {
    const variant::BoundTable& table = call.bound.tables[i];
    if (variant.tables()[i].frozen_data()) continue;
    if (!table.is_contiguous()) return std::nullopt;
    hash.add(table.data);  // which the mask goes on reading
    hash.add(table.extents);
    if (!table.is_empty()) hash.add(table.data, static_cast<std::size_t>(table.elements() * size_of(table.dtype)));
  }
  for (const double number : call.bound.parameters) hash.add(number);
  for (const double number : call.bound.literals) hash.add(number);
  return hash.value();
}

}  // namespace

CallMasks::CallMasks(const Variant& variant, const PlanShape& shape)
    : variant_(variant), universe_(widest_universe(shape)) {
  Variant::Data known = variant.data();
  const variant::Graph& graph = known.graph;
  const Dependences dependences(graph);
  const auto is_left_out = [&](const variant::Stage& stage) {
    if (!dependences.follows_bindings[stage.root]) return false;
    std::vector<bool> parts(graph.size());
    mark_parts(graph, stage.root, parts);
    if (stage.kind == variant::Stage::Kind::keep || can_remove_by_itself(graph, parts, dependences.follows_bindings))
      follows_bindings_ = true;
    for (NodeId id = 0; id < graph.size(); ++id) {
      if (!parts[id] || graph[id].kind != Kind::read) continue;
      const auto slot = static_cast<std::size_t>(graph[id].index);
      const Table& table = graph.tables()[slot];
      const bool can_be_infinite = table.type() == Type::real && std::isinf(table.low());
      if (!table.frozen_data() && can_be_infinite && std::ranges::find(sampled_, slot) == sampled_.end())
        sampled_.push_back(slot);
    }
    return true;
  };
  std::erase_if(known.stages, is_left_out);
  const variant::SlotBounds slots = tiles::declared_bounds(graph, planned_extents(variant, shape));
  planned_ = tiles::make_mask(known, slots, universe_);
}

const tiles::Mask& CallMasks::of(const variant::Call& call, AnalysedMask& analysed, bool* is_new) const {
  *is_new = false;
  // Where pages are missing, what is called full decides more than the cost.
  const bool must_look =
      follows_bindings_ || (call.keys_paged && !sampled_.empty()) ||
      std::ranges::any_of(sampled_, [&](std::size_t slot) { return holds_minus_infinity(call.bound.tables[slot]); });
  if (!must_look) return planned_;
  const auto content = content_of(variant_, call);
  if (analysed.mask && content && *content == analysed.content) return *analysed.mask;
  *is_new = true;
  analysed.mask.reset();
  analysed.slots = variant::bounds_of(variant_.data().graph, call.bound);
  analysed.mask = tiles::make_mask(variant_.data(), *analysed.slots, universe_);
  analysed.content = content.value_or(std::array<std::uint64_t, 2>{});
  return *analysed.mask;
}

}  // namespace tilewise::attention
