// What a variant makes of the entries of one head: scores, the sink, dropout.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "variant/call.h"
#include "variant/scalar.h"

namespace tilewise::reference {

/// The least finite score: others below it, such as a mask's finfo.min, must not overflow when scores are subtracted.
inline constexpr double kLeastScore = -0x1p126;

/// Reads a variant for one call. Keeps references to both.
template <class Real>
class Entries {
 public:
  Entries(const Variant& variant, const variant::Call& call);

  /// Moves to a head of a sequence; the functions below are about its entries.
  void enter_head(std::int64_t sequence, std::int64_t head);

  /// What the stages make of a raw score, q.k: from scale * raw, each in order; -inf where the entry is removed, or its
  /// key does not exist. Throws Error(invalid_argument) where the entry is kept but reads outside of a table, or its
  /// key lies in a hole of the block table.
  Real score(std::int64_t query, std::int64_t key, Real raw);

  Real scaled(Real raw) const { return static_cast<Real>(call_.scale) * raw; }

  bool has_sink() const { return variant_.sink != variant::kNoNode; }
  Real sink();

  /// What dropout multiplies the entry's weight with: 1 without dropout, 0 where it is dropped.
  Real dropout_factor(std::int64_t query, std::int64_t key) const;

 private:
  /// The first of `reads` that is outside of its table here, or kNoNode.
  variant::NodeId first_outside(const std::vector<variant::NodeId>& reads);

  /// Throws for a read that is outside at `where`.
  [[noreturn]] void refuse(variant::NodeId read, const std::string& where);

  const Variant::Data& variant_;
  const variant::Call& call_;
  variant::ScalarReading<Real> reading_;
  std::vector<std::vector<variant::NodeId>> stage_reads_;  // [stages], those that must lie inside
  std::vector<variant::NodeId> sink_reads_;
  std::int64_t sequence_ = 0;
  std::int64_t head_ = 0;
};

}  // namespace tilewise::reference
