#include "kv_cache/page_pool.h"

namespace tilewise::kv_cache {

PagePool::PagePool(std::int64_t pages, std::int64_t page_tokens)
    : page_tokens_(page_tokens), states_(static_cast<std::size_t>(pages)) {
  // Low pages first: memory that no page has used yet stays untouched at the end.
  free_.reserve(states_.size());
  for (auto page = static_cast<std::int32_t>(pages); page > 0; --page) free_.push_back(page - 1);
}

std::int32_t PagePool::take() {
  if (free_.empty()) {
    ++evicted_;
    unindex(reusable_.begin()->second);
  }
  const std::int32_t page = free_.back();
  free_.pop_back();
  state(page) = {.owners = 1};
  return page;
}

void PagePool::share(std::int32_t page) {
  State& shared = state(page);
  if (shared.owners == 0) reusable_.erase({shared.given_up_at, page});
  ++shared.owners;
}

void PagePool::give_up(std::int32_t page) {
  State& given = state(page);
  if (--given.owners > 0) return;
  if (index_.has(page)) {
    given.given_up_at = clock_++;
    reusable_.emplace(given.given_up_at, page);
  } else {
    free_.push_back(page);
  }
}

void PagePool::unindex(std::int32_t page) {
  for (const std::int32_t removed : index_.remove(page)) {
    const State& was = state(removed);
    if (was.owners == 0) {
      reusable_.erase({was.given_up_at, removed});
      free_.push_back(removed);
    }
  }
}

void PagePool::forget() {
  while (!reusable_.empty()) unindex(reusable_.begin()->second);
  for (std::size_t page = 0; page < states_.size(); ++page) {
    if (index_.has(static_cast<std::int32_t>(page))) unindex(static_cast<std::int32_t>(page));
  }
}

void PagePool::count(KvCacheAccount& account, std::int64_t slot_bytes) const {
  const std::int64_t page_bytes = page_tokens_ * slot_bytes;
  for (const State& page : states_) {
    if (page.owners == 0) continue;
    const std::int64_t bytes = page.tokens * slot_bytes;
    ++account.live_pages;
    account.used_bytes += bytes;
    account.wasted_bytes += page_bytes - bytes;
    account.saved_bytes += (page.owners - 1) * bytes;
    if (page.owners > 1) {
      ++account.shared_pages;
      account.shared_bytes += bytes;
    }
  }
  account.pages = static_cast<std::int64_t>(states_.size());
  account.reusable_pages = static_cast<std::int64_t>(reusable_.size());
  account.free_pages = static_cast<std::int64_t>(free_.size());
  account.total_bytes = account.pages * page_bytes;
  account.reusable_bytes = account.reusable_pages * page_bytes;
  account.free_bytes = account.free_pages * page_bytes;
  account.evicted_pages = evicted_;
}

}  // namespace tilewise::kv_cache
