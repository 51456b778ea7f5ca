// Pages by what they hold: their tokens, and the page before them.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

namespace tilewise::kv_cache {

/// A content is a path of full pages from a sequence's beginning; its number is never used again. Two sequences have
/// the same content exactly where their tokens are equal, which is compared and not hashed: nobody's prompt can be
/// taken for another's.
class PrefixIndex {
 public:
  using Content = std::int64_t;

  /// The content that all sequences of a domain begin with: no page.
  static Content root(std::int64_t domain) { return -1 - domain; }

  struct Found {
    Content content;
    std::int32_t page;
  };

  /// The page that holds `tokens` behind `before`.
  std::optional<Found> find(Content before, std::span<const std::int32_t> tokens) const;

  /// Enters a page and returns its content. Where another page has that content already, it stays and the new one is
  /// not entered. nullopt where `before` is no longer there.
  std::optional<Content> enter(Content before, std::span<const std::int32_t> tokens, std::int32_t page);

  bool has(std::int32_t page) const { return by_page_.contains(page); }

  /// Takes a page out, and all that lie behind it, since nothing leads to those any more. Returns their pages.
  std::vector<std::int32_t> remove(std::int32_t page);

 private:
  // Sorted by what is before first, so that all that lies behind a content is one range.
  using Key = std::pair<Content, std::vector<std::int32_t>>;
  std::map<Key, Found> by_key_;
  std::unordered_map<Content, std::map<Key, Found>::iterator> by_content_;
  std::unordered_map<std::int32_t, Content> by_page_;
  Content next_ = 0;
};

}  // namespace tilewise::kv_cache
