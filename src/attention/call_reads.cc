#include "attention/call_reads.h"

#include "attention/check_plan.h"
#include "tiles/mask.h"

namespace tilewise::attention {
namespace {

/// All numbers that a call's proof follows from.
void list_numbers(const variant::Call& call, std::vector<std::int64_t>& numbers) {
  numbers.clear();
  for (const variant::BoundTable& table : call.bound.tables)
    numbers.insert(numbers.end(), table.extents.begin(), table.extents.end());
  for (const Sequence& sequence : call.problem.sequences) {
    numbers.insert(numbers.end(),
                   {sequence.s_q, sequence.s_kv, sequence.key_offset, sequence.key_start,
                    sequence.first_query_position(), sequence.first_query_token, sequence.first_key_token});
  }
}

bool is_as_large_as_planned(const variant::SlotBounds& planned, const variant::Call& call) {
  for (std::size_t i = 0; i < planned.tables.size(); ++i) {
    for (std::size_t axis = 0; axis < kMaxRank; ++axis) {
      if (call.bound.tables[i].extents[axis] < planned.tables[i].extents[axis]) return false;
    }
  }
  return true;
}

}  // namespace

CallReads::CallReads(const Variant& variant, const PlanShape& shape)
    : variant_(variant),
      must_prove_(prove_planned_reads(variant, shape)),
      planned_(tiles::declared_bounds(variant.data().graph, planned_extents(variant, shape))) {}

void CallReads::prove(const PlanShape& shape, const ForwardInputs& inputs, const variant::Call& call,
                      ProvenReads& proven) const {
  if (!must_prove_) return;
  if (is_as_large_as_planned(planned_, call)) {
    if (proven.bounds == nullptr) proven.bounds = std::make_unique<tiles::ReadBounds>(variant_.data(), planned_);
    if (proven.bounds->are_inside(tiles::universe_of(call.problem))) return;
  }
  list_numbers(call, proven.scratch);
  if (proven.scratch == proven.numbers) return;
  prove_reads(variant_, shape, inputs, call);
  proven.numbers.swap(proven.scratch);
}

}  // namespace tilewise::attention
