// Which cached keys no later query sees, by the bounds of the variant's mask.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "tiles/classify.h"
#include "tilewise/variant.h"

namespace tilewise::runtime {

/// Pages [begin, end) of a sequence.
struct PageRange {
  std::int64_t begin = 0, end = 0;
  friend bool operator==(const PageRange&, const PageRange&) = default;
};

/// Asks one variant. For one thread at a time.
class UnseenKeys {
 public:
  UnseenKeys(const Variant& variant, std::int64_t h_q, std::int64_t h_kv, std::int64_t page_tokens);

  /// Those of `pages`, all of whose keys come before `from`, that no query at a position in [from, until) sees under
  /// any head: proven, so a page of which nothing is known is not among them. In rising order, none next to each other.
  std::vector<PageRange> find(PageRange pages, std::int64_t from, std::int64_t until);

 private:
  /// What the mask leaves of the keys of pages for those queries, the least empty of all heads.
  TileClass classify(PageRange pages, std::int64_t from, std::int64_t until);
  void search(PageRange pages, std::int64_t from, std::int64_t until, std::vector<PageRange>& found);

  std::unique_ptr<tiles::Classifier> classifier_;  // null: the mask follows more than positions and heads
  std::int64_t heads_, page_tokens_;
};

}  // namespace tilewise::runtime
