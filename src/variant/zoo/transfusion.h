#pragma once

#include "variant/zoo/common/expect.h"
#include "variant/zoo/common/frozen.h"
#include "variant/zoo/common/places.h"

namespace tilewise::zoo {

/// Causal, but within spans such as images each position sees the whole span.
///
///     keep(query >= key or query and key lie in the same span)
///
/// `starts`, `lengths`: first position and number of positions of each span, ascending and disjoint, from 0 on; lengths
/// are at least 1.
///
/// Source: Transfusion (Zhou et al. 2024); PaliGemma (Beyer et al. 2024) and Gemma 3 (2025) for image tokens
/// Example: transfusion([64, 512], [256, 256])
Variant transfusion(const std::vector<std::int32_t>& starts, const std::vector<std::int32_t>& lengths) {
  if (starts.size() != lengths.size() || starts.empty()) {
    fail_argument("transfusion(): {} starts and {} lengths, expected as many of both and at least one", starts.size(),
                  lengths.size());
  }
  std::vector<std::int32_t> last;  // [positions], the last position of each one's span, or -1 outside of spans
  for (std::size_t span = 0; span < starts.size(); ++span) {
    expect_at_least("transfusion", "a start", starts[span], static_cast<std::int32_t>(last.size()));
    expect_between("transfusion", "a length", lengths[span], 1,
                   std::numeric_limits<std::int32_t>::max() - starts[span]);
    last.resize(static_cast<std::size_t>(starts[span]), -1);
    last.resize(last.size() + static_cast<std::size_t>(lengths[span]), starts[span] + lengths[span] - 1);
  }
  const auto count = static_cast<std::int32_t>(last.size());
  const Table span_last = frozen("span_last", last);
  return keep([&](const At& at) {
    return at.query >= at.key || (inside(at.query, count) && at.key <= span_last.clamped(at.query));
  });
}

}  // namespace tilewise::zoo
