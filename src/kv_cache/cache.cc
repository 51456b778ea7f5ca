#include "kv_cache/cache.h"

#include <algorithm>
#include <limits>

#include "core/fail.h"
#include "core/round_up.h"

namespace tilewise::kv_cache {
namespace {

constexpr std::int64_t kMostPages = std::numeric_limits<std::int32_t>::max();
constexpr std::int64_t kMostTokens = std::numeric_limits<std::int32_t>::max();  // positions are int32

KvCacheShape checked(const KvCacheShape& shape) {
  const auto expect = [](const char* name, std::int64_t value, std::int64_t least, std::int64_t most) {
    if (value < least || value > most) fail_argument("{} is {}; expected {} to {}", name, value, least, most);
  };
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
  expect("layers", shape.layers, 1, kMost);
  expect("h_kv", shape.h_kv, 1, kMost);
  expect("d_qk", shape.d_qk, 1, kMost);
  expect("d_v", shape.d_v, 1, kMost);
  expect("page_tokens", shape.page_tokens, 1, kMost);
  expect("pages", shape.pages, 1, kMostPages);
  const DType dtype = shape.dtype;
  if (dtype != DType::float32 && dtype != DType::bfloat16 && dtype != DType::float16 && dtype != DType::int8) {
    fail_argument("dtype is {}; expected float32, bfloat16, float16 or int8", to_string(dtype));
  }
  return shape;
}

}  // namespace

Cache::Cache(const KvCacheShape& shape)
    : shape_(checked(shape)),
      keys_(shape, shape.d_qk),
      values_(shape, shape.d_v),
      pool_(shape.pages, shape.page_tokens) {}

Cache::State& Cache::at(KvSequence sequence) {
  const auto found = sequences_.find(static_cast<std::int64_t>(sequence));
  if (found == sequences_.end()) {
    fail_argument("sequence {} is not in this cache; it may be finished", static_cast<std::int64_t>(sequence));
  }
  return found->second;
}

const Cache::State& Cache::at(KvSequence sequence) const { return const_cast<Cache*>(this)->at(sequence); }

KvSequence Cache::add(State state) {
  sequences_.emplace(next_sequence_, std::move(state));
  return static_cast<KvSequence>(next_sequence_++);
}

void Cache::expect_pages(const State& state, std::int64_t first, std::int64_t count) const {
  const auto pages = static_cast<std::int64_t>(state.pages.size());
  if (first < 0 || count < 0 || first > pages || count > pages - first) {
    fail_argument("pages [{}, {} + {}) of a sequence that has {}", first, first, count, pages);
  }
}

void Cache::expect_layer(std::int64_t layer) const {
  if (layer < 0 || layer >= shape_.layers) fail_argument("layer is {}; expected 0 to {}", layer, shape_.layers - 1);
}

void Cache::expect_available(KvSequence sequence, std::int64_t needed) const {
  if (needed <= pool_.available()) return;
  fail(ErrorCode::out_of_memory,
       "the cache is full: sequence {} needs {} pages, {} of {} can be had; finish or pre-empt a sequence, or make the "
       "cache larger",
       static_cast<std::int64_t>(sequence), needed, pool_.available(), shape_.pages);
}

KvSequence Cache::start(std::span<const std::int32_t> tokens, std::int64_t domain) {
  if (domain < 0) fail_argument("domain is {}; expected 0 or more", domain);
  State state;
  state.content = PrefixIndex::root(domain);
  const auto length = static_cast<std::int64_t>(tokens.size());
  while (state.length + shape_.page_tokens < length) {
    const auto page_tokens =
        tokens.subspan(static_cast<std::size_t>(state.length)).first(static_cast<std::size_t>(shape_.page_tokens));
    const auto found = pool_.index().find(state.content, page_tokens);
    if (!found) break;
    pool_.share(found->page);
    state.pages.push_back(found->page);
    state.content = found->content;
    state.length += shape_.page_tokens;
    ++state.committed;
  }
  reused_tokens_ += state.length;
  started_tokens_ += length;
  return add(std::move(state));
}

KvSequence Cache::fork(KvSequence sequence) {
  State copy = at(sequence);
  for (const std::int32_t page : copy.pages) {
    if (page >= 0) pool_.share(page);
  }
  return add(std::move(copy));
}

std::int64_t Cache::pages_needed(KvSequence sequence, std::int64_t tokens) const {
  const State& state = at(sequence);
  if (tokens < 0 || tokens > kMostTokens - state.length) {
    fail_argument("tokens is {}; a sequence of {} takes 0 to {}", tokens, state.length, kMostTokens - state.length);
  }
  if (tokens == 0) return 0;
  const std::int64_t pages = ceil_div(state.length + tokens, shape_.page_tokens);
  const bool copies = last_page_has_room(state) && others_have(state.pages.back());
  return pages - static_cast<std::int64_t>(state.pages.size()) + (copies ? 1 : 0);
}

void Cache::replace_by_copy(std::int32_t& page) {
  const std::int32_t copy = pool_.take();
  keys_.copy(page, copy);
  values_.copy(page, copy);
  pool_.set_tokens(copy, pool_.tokens(page));
  pool_.give_up(page);
  page = copy;
}

void Cache::append(KvSequence sequence, std::span<const std::int32_t> tokens) {
  State& state = at(sequence);
  expect_available(sequence, pages_needed(sequence, static_cast<std::int64_t>(tokens.size())));
  if (tokens.empty()) return;
  if (last_page_has_room(state) && others_have(state.pages.back())) replace_by_copy(state.pages.back());
  for (auto left = static_cast<std::int64_t>(tokens.size()); left > 0;) {
    const std::int64_t used = state.length % shape_.page_tokens;
    if (used == 0) state.pages.push_back(pool_.take());
    const std::int64_t added = std::min(left, shape_.page_tokens - used);
    pool_.set_tokens(state.pages.back(), used + added);
    state.length += added;
    left -= added;
  }
  if (state.offered) state.tokens.insert(state.tokens.end(), tokens.begin(), tokens.end());
}

void Cache::commit(KvSequence sequence) {
  State& state = at(sequence);
  std::size_t entered = 0;  // tokens
  const auto page_tokens = static_cast<std::size_t>(shape_.page_tokens);
  while (state.offered && state.tokens.size() - entered >= page_tokens) {
    const auto content = pool_.index().enter(state.content, std::span(state.tokens).subspan(entered, page_tokens),
                                             state.pages[static_cast<std::size_t>(state.committed)]);
    state.offered = content.has_value();
    state.content = content.value_or(state.content);
    ++state.committed;
    entered += page_tokens;
  }
  state.tokens.erase(state.tokens.begin(), state.tokens.begin() + static_cast<std::ptrdiff_t>(entered));
  if (!state.offered) state.tokens = {};
}

void Cache::drop_pages(KvSequence sequence, std::int64_t first, std::int64_t count) {
  State& state = at(sequence);
  expect_pages(state, first, count);
  const auto pages = static_cast<std::int64_t>(state.pages.size());
  if (count > 0 && first + count == pages && last_page_has_room(state)) {
    fail_argument("page {} is the sequence's last one and has room; it stays until it is full", pages - 1);
  }
  if (first + count > state.committed) {
    state.offered = false;
    state.tokens = {};
  }
  // The later ones first, as finish() does.
  for (std::int64_t i = first + count - 1; i >= first; --i) {
    std::int32_t& page = state.pages[static_cast<std::size_t>(i)];
    if (page >= 0) pool_.give_up(page);
    page = -1;
  }
}

void Cache::make_private(KvSequence sequence, std::int64_t first, std::int64_t count) {
  State& state = at(sequence);
  expect_pages(state, first, count);
  const auto range = std::span(state.pages).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count));
  const auto is_common = [this](std::int32_t page) { return page >= 0 && others_have(page); };
  expect_available(sequence, std::count_if(range.begin(), range.end(), is_common));
  for (std::int32_t& page : range) {
    if (is_common(page)) replace_by_copy(page);
  }
  state.offered = false;
  state.tokens = {};
}

void Cache::finish(KvSequence sequence) {
  const State& state = at(sequence);
  for (auto page = state.pages.rbegin(); page != state.pages.rend(); ++page) {
    if (*page >= 0) pool_.give_up(*page);
  }
  sequences_.erase(static_cast<std::int64_t>(sequence));
}

KvCacheAccount Cache::account() const {
  KvCacheAccount account;
  const std::int64_t row_bytes = (shape_.d_qk + shape_.d_v) * size_of(shape_.dtype);
  const std::int64_t scale_bytes = shape_.dtype == DType::int8 ? 2 * static_cast<std::int64_t>(sizeof(float)) : 0;
  pool_.count(account, shape_.layers * shape_.h_kv * (row_bytes + scale_bytes));
  account.reused_tokens = reused_tokens_;
  account.started_tokens = started_tokens_;
  return account;
}

}  // namespace tilewise::kv_cache
