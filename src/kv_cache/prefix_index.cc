#include "kv_cache/prefix_index.h"

#include <limits>

namespace tilewise::kv_cache {

std::optional<PrefixIndex::Found> PrefixIndex::find(Content before, std::span<const std::int32_t> tokens) const {
  const auto found = by_key_.find({before, {tokens.begin(), tokens.end()}});
  if (found == by_key_.end()) return std::nullopt;
  return found->second;
}

std::optional<PrefixIndex::Content> PrefixIndex::enter(Content before, std::span<const std::int32_t> tokens,
                                                       std::int32_t page) {
  if (before >= 0 && !by_content_.contains(before)) return std::nullopt;
  const auto [place, is_new] = by_key_.try_emplace({before, {tokens.begin(), tokens.end()}}, Found{next_, page});
  if (is_new) {
    by_content_.emplace(next_, place);
    by_page_.emplace(page, next_);
    ++next_;
  }
  return place->second.content;
}

std::vector<std::int32_t> PrefixIndex::remove(std::int32_t page) {
  std::vector<std::int32_t> removed;
  std::vector<Content> left{by_page_.at(page)};
  while (!left.empty()) {
    const Content content = left.back();
    left.pop_back();
    for (auto behind = by_key_.lower_bound({content, {}}); behind != by_key_.end() && behind->first.first == content;
         ++behind) {
      left.push_back(behind->second.content);
    }
    const auto place = by_content_.at(content);
    removed.push_back(place->second.page);
    by_page_.erase(place->second.page);
    by_key_.erase(place);
    by_content_.erase(content);
  }
  return removed;
}

}  // namespace tilewise::kv_cache
