// Proofs that a call's reads of tables lie inside, made once for what calls have in common.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "tiles/reads.h"
#include "tilewise/attention.h"
#include "variant/call.h"

namespace tilewise::attention {

/// What is known from the last proof that took a look at entries, and memory to make others with.
struct ProvenReads {
  std::vector<std::int64_t> numbers;  // extents of tables, lengths and positions of sequences
  std::vector<std::int64_t> scratch;
  std::unique_ptr<tiles::ReadBounds> bounds;
};

/// The proofs of one plan. Calls of any lengths are mostly proven by one evaluation over the hull of all their entries;
/// only where that fails, and the call is not as the last one was, are its entries looked at.
class CallReads {
 public:
  /// Proves the plan's own lengths; throws as prove_planned_reads.
  CallReads(const Variant& variant, const PlanShape& shape);

  /// Throws as prove_reads. Allocates nothing where the call is proven without a look at its entries.
  void prove(const PlanShape& shape, const ForwardInputs& inputs, const variant::Call& call, ProvenReads& proven) const;

 private:
  Variant variant_;
  bool must_prove_ = false;
  variant::SlotBounds planned_;
};

}  // namespace tilewise::attention
