#include "reference/entries.h"

#include <limits>

#include "core/fail.h"
#include "variant/place.h"

namespace tilewise::reference {
namespace {

using variant::kNoNode;
using variant::NodeId;

/// The reads that `root` needs, but for those that are declared clamped.
std::vector<NodeId> bounded_reads(const variant::Graph& graph, NodeId root) {
  std::vector<NodeId> reads;
  std::vector<bool> needed(root + 1, false);
  needed[root] = true;
  for (NodeId id = root + 1; id-- > 0;) {  // operands come before what uses them
    if (!needed[id]) continue;
    for (NodeId operand : graph[id].inputs()) needed[operand] = true;
    if (graph[id].kind == variant::Kind::read && !graph[id].clamped) reads.push_back(id);
  }
  return reads;
}

}  // namespace

template <class Real>
Entries<Real>::Entries(const Variant& variant, const variant::Call& call)
    : variant_(variant.data()), call_(call), reading_(variant_.graph, call.bound) {
  for (const variant::Stage& stage : variant_.stages) stage_reads_.push_back(bounded_reads(variant_.graph, stage.root));
  if (has_sink()) sink_reads_ = bounded_reads(variant_.graph, variant_.sink);
}

template <class Real>
void Entries<Real>::enter_head(std::int64_t sequence, std::int64_t head) {
  sequence_ = sequence;
  head_ = head;
}

template <class Real>
Real Entries<Real>::score(std::int64_t query, std::int64_t key, Real raw) {
  constexpr Real kRemoved = -std::numeric_limits<Real>::infinity();
  if (key < call_.problem.sequences[static_cast<std::size_t>(sequence_)].key_start) return kRemoved;
  reading_.enter(variant::place_of(call_.problem, sequence_, head_, query, key));
  Real score = static_cast<Real>(call_.scale) * raw;
  NodeId read_outside = kNoNode;
  for (std::size_t i = 0; i < variant_.stages.size(); ++i) {
    const variant::Stage& stage = variant_.stages[i];
    reading_.set_score(score);
    const variant::Value<Real> value = reading_.evaluate(stage.root);
    if (stage.kind == variant::Stage::Kind::keep) {
      if (!value.boolean) return kRemoved;
    } else {
      if (value.real == kRemoved) return kRemoved;
      score = value.real < kLeastScore ? static_cast<Real>(kLeastScore) : value.real;
    }
    if (read_outside == kNoNode) read_outside = first_outside(stage_reads_[i]);
  }
  if (read_outside != kNoNode) refuse(read_outside, fmt::format("query index {}, key index {} of ", query, key));
  if (call_.keys_paged && call_.pages_of(sequence_)[key / call_.page_tokens] < 0) {
    fail_argument(
        "block_table[{}, {}] is -1, a hole, but query index {} of head {} keeps key index {}; expected the page, or a "
        "variant that keeps no entry of it",
        sequence_, key / call_.page_tokens, query, head_, key);
  }
  return score;
}

template <class Real>
Real Entries<Real>::sink() {
  reading_.enter(variant::place_of(call_.problem, sequence_, head_, 0, 0));
  if (const NodeId read = first_outside(sink_reads_); read != kNoNode) refuse(read, "the sink of ");
  return reading_.evaluate(variant_.sink).real;
}

template <class Real>
Real Entries<Real>::dropout_factor(std::int64_t query, std::int64_t key) const {
  if (!call_.has_dropout()) return 1;
  const bool kept = dropout_keeps(call_.dropout, key, query, sequence_ * call_.problem.h_q + head_);
  return kept ? static_cast<Real>(call_.dropout.scale()) : Real{0};
}

template <class Real>
NodeId Entries<Real>::first_outside(const std::vector<NodeId>& reads) {
  for (NodeId read : reads) {
    const variant::Node& node = variant_.graph[read];
    const variant::BoundTable& table = call_.bound.tables[static_cast<std::size_t>(node.index)];
    for (std::size_t axis = 0; axis < node.operand_count; ++axis) {
      const std::int32_t index = reading_.evaluate(node.operands[axis]).int32;
      if (index < 0 || index >= table.extents[axis]) return read;
    }
  }
  return kNoNode;
}

template <class Real>
void Entries<Real>::refuse(NodeId read, const std::string& where) {
  const variant::Node& node = variant_.graph[read];
  const auto table = static_cast<std::size_t>(node.index);
  std::vector<std::int32_t> indices;
  for (NodeId operand : node.inputs()) indices.push_back(reading_.evaluate(operand).int32);
  const auto& extents = call_.bound.tables[table].extents;
  fail_argument(
      "table '{}' is read at [{}] for {}head {}, sequence {}, but its extents are [{}]; expected an index inside, or a "
      "read that is declared clamped",
      variant_.graph.tables()[table].name(), fmt::join(indices, ", "), where, head_, sequence_,
      fmt::join(extents.begin(), extents.begin() + node.operand_count, ", "));
}

template class Entries<float>;
template class Entries<double>;

}  // namespace tilewise::reference
