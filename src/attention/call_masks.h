// The mask of a call: what a plan knows of it beforehand, and what has to be looked at in what a call binds.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "tiles/mask.h"
#include "tilewise/attention.h"
#include "variant/call.h"

namespace tilewise::attention {

/// The mask of the last call that had to look, kept for calls that bind the same.
struct AnalysedMask {
  std::optional<variant::SlotBounds> slots;  // of `mask`
  std::optional<tiles::Mask> mask;
  std::array<std::uint64_t, 2> content{};  // a hash of all that it follows from
};

/// A score stage that reads tables or parameters removes an entry only where their data hold -inf, or where it says so
/// itself. Otherwise its tiles are called full without a look at the data: should an entry come out as -inf after all,
/// its weight is 0 there, too, and what is lost is that its tile could have been skipped.
class CallMasks {
 public:
  CallMasks(const Variant& variant, const PlanShape& shape);

  /// The mask of a call, in the plan or in `analysed`. Sets *is_new to whether it was made for this call.
  const tiles::Mask& of(const variant::Call& call, AnalysedMask& analysed, bool* is_new) const;

  /// The mask of the stages that do not follow bindings: of every call whose data remove nothing more.
  const tiles::Mask& planned() const { return planned_; }

  /// Whether every call's bindings have to be looked at; whether no entry of any call is removed.
  bool follows_bindings() const { return follows_bindings_; }
  bool is_empty() const { return planned_.program.wanted.empty() && !follows_bindings_; }

 private:
  Variant variant_;
  variant::IntervalPlace universe_;   // of all calls
  tiles::Mask planned_;               // of the stages that do not follow bindings
  bool follows_bindings_ = false;     // some other stage may remove entries whatever the data are
  std::vector<std::size_t> sampled_;  // tables that remove entries where they hold -inf
};

}  // namespace tilewise::attention
