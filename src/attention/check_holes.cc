#include "attention/check_holes.h"

#include <algorithm>

#include "core/fail.h"

namespace tilewise::attention {
namespace {

/// Pages [begin, end) of a sequence are holes.
void check_run(const variant::Call& call, std::int64_t sequence, std::int64_t begin, std::int64_t end,
               tiles::KeySpans& spans, bool heads_differ) {
  const Sequence& lengths = call.problem.sequences[static_cast<std::size_t>(sequence)];
  const Box box{0, lengths.s_q, std::max(begin * call.page_tokens, lengths.key_start),
                std::min(end * call.page_tokens, lengths.s_kv)};
  if (box.is_empty()) return;
  for (std::int64_t head = 0; head < (heads_differ ? call.problem.h_q : 1); ++head) {
    spans.enter(sequence, head, tiles::Walk::along_keys);
    const auto found = spans.find_kept(box);
    if (!found) continue;
    const Box& kept = found->box;
    const std::int64_t page = kept.key_begin / call.page_tokens;
    if (found->is_certain) {
      fail_argument(
          "block_table[{}, {}] is -1, a hole, but query index {} of head {} keeps key index {}; expected the page, or "
          "a variant that keeps no entry of it",
          sequence, page, kept.query_begin, head, kept.key_begin);
    }
    fail(ErrorCode::unsupported,
         "block_table[{}, {}] is -1, a hole, and it cannot be shown that head {} keeps none of the entries of query "
         "indices [{}, {}) and key indices [{}, {}); expected the pages, or a variant whose keeps show it",
         sequence, page, head, kept.query_begin, kept.query_end, kept.key_begin, kept.key_end);
  }
}

}  // namespace

void check_holes(const variant::Call& call, tiles::KeySpans& spans, bool heads_differ) {
  if (!call.keys_paged) return;
  for (std::int64_t sequence = 0; sequence < call.problem.b(); ++sequence) {
    const Sequence& lengths = call.problem.sequences[static_cast<std::size_t>(sequence)];
    if (lengths.key_start >= lengths.s_kv) continue;
    const std::int32_t* pages = call.pages_of(sequence);
    const std::int32_t* end = pages + (lengths.s_kv - 1) / call.page_tokens + 1;
    const std::int32_t* at = std::find(pages + lengths.key_start / call.page_tokens, end, -1);
    while (at != end) {
      const std::int32_t* after = std::find_if(at, end, [](std::int32_t page) { return page >= 0; });
      check_run(call, sequence, at - pages, after - pages, spans, heads_differ);
      at = std::find(after, end, -1);
    }
  }
}

}  // namespace tilewise::attention
