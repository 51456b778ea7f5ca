// Which pages are free, which someone has, and which are kept for reuse.
#pragma once

#include <cstdint>
#include <set>
#include <utility>
#include <vector>

#include "kv_cache/prefix_index.h"
#include "tilewise/kv_cache.h"

namespace tilewise::kv_cache {

/// A page is free; or live, with a count of the sequences that have it; or reusable: nobody has it, but the index leads
/// to it.
class PagePool {
 public:
  PagePool(std::int64_t pages, std::int64_t page_tokens);

  /// Free and reusable pages.
  std::int64_t available() const { return static_cast<std::int64_t>(free_.size() + reusable_.size()); }

  /// A page with one owner and no tokens: a free one, else the least recently used of the reusable ones. Some must be
  /// available.
  std::int32_t take();

  /// One owner more, of a page that is live or reusable.
  void share(std::int32_t page);

  /// One owner less. Without any, an indexed page becomes the most recently used reusable one, any other one free.
  void give_up(std::int32_t page);

  std::int64_t owners(std::int32_t page) const { return state(page).owners; }
  void set_tokens(std::int32_t page, std::int64_t tokens) { state(page).tokens = tokens; }
  std::int64_t tokens(std::int32_t page) const { return state(page).tokens; }

  /// Whether start() may come upon the page.
  bool is_indexed(std::int32_t page) const { return index_.has(page); }
  PrefixIndex& index() { return index_; }

  /// Frees all reusable pages, and leaves the index empty.
  void forget();

  /// Fills in pages, and bytes for slots of that many.
  void count(KvCacheAccount& account, std::int64_t slot_bytes) const;

 private:
  struct State {
    std::int64_t owners = 0;
    std::int64_t tokens = 0;        // slots that hold one
    std::uint64_t given_up_at = 0;  // by clock_; reusable pages only
  };
  State& state(std::int32_t page) { return states_[static_cast<std::size_t>(page)]; }
  const State& state(std::int32_t page) const { return states_[static_cast<std::size_t>(page)]; }

  /// Takes a page and what lies behind it out of the index; those that nobody has become free.
  void unindex(std::int32_t page);

  std::int64_t page_tokens_;
  std::vector<State> states_;                                  // [pages]
  std::vector<std::int32_t> free_;                             // the last one is taken next
  std::set<std::pair<std::uint64_t, std::int32_t>> reusable_;  // by given_up_at
  PrefixIndex index_;
  std::uint64_t clock_ = 0;
  std::int64_t evicted_ = 0;
};

}  // namespace tilewise::kv_cache
