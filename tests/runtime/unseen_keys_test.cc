// Which pages are given up: only those that no later query sees, by trying all pairs; and all of them where the variant
// is simple.
#include "runtime/unseen_keys.h"

#include <gtest/gtest.h>

#include <functional>

#include "runtime/reach.h"
#include "tilewise/zoo.h"

namespace tilewise::runtime {
namespace {

struct Case {
  std::string variant;
  std::function<bool(std::int64_t, std::int64_t)> sees;
  bool finds_all;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {"causal()", [](auto query, auto key) { return key <= query; }, true},
      {"window(20)", [](auto query, auto key) { return key <= query && query - key < 20; }, true},
      {"streaming_llm(5, 20)", [](auto query, auto key) { return key <= query && (query - key < 20 || key < 5); },
       true},
      {"causal() & keep(query // 32 == key // 32)",
       [](auto query, auto key) { return key <= query && query / 32 == key / 32; }, false},
      {"window(30) & softcap(20)", [](auto query, auto key) { return key <= query && query - key < 30; }, true},
      {"causal() & keep(head == 0 or query - key < 12)", [](auto query, auto key) { return key <= query; }, true},
  };
  return all;
}

TEST(UnseenKeys, AreSeenByNoLaterQuery) {
  constexpr std::int64_t kUntil = 200;
  for (const Case& each : cases()) {
    for (const std::int64_t page_tokens : {1, 4, 16}) {
      UnseenKeys unseen(parse_variant(each.variant), 2, 1, page_tokens);
      for (std::int64_t from = page_tokens; from < kUntil; from += 7) {
        SCOPED_TRACE(::testing::Message() << each.variant << ", pages of " << page_tokens << ", from " << from);
        const std::int64_t pages = from / page_tokens;
        std::vector<bool> found(static_cast<std::size_t>(pages));
        std::int64_t last = -1;
        for (const PageRange& range : unseen.find({0, pages}, from, kUntil)) {
          EXPECT_GT(range.begin, last);
          last = range.end;
          for (std::int64_t page = range.begin; page < range.end; ++page) found[static_cast<std::size_t>(page)] = true;
        }
        for (std::int64_t page = 0; page < pages; ++page) {
          bool seen = false;
          for (std::int64_t query = from; query < kUntil && !seen; ++query) {
            for (std::int64_t i = 0; i < page_tokens; ++i) seen = seen || each.sees(query, page * page_tokens + i);
          }
          EXPECT_FALSE(seen && found[static_cast<std::size_t>(page)]) << "page " << page;
          EXPECT_TRUE(seen || !each.finds_all || found[static_cast<std::size_t>(page)]) << "page " << page;
        }
      }
    }
  }
}

TEST(UnseenKeys, LengthsThatChangeProveNothing) {
  UnseenKeys unseen(parse_variant("keep(keys - key < 10)"), 1, 1, 4);
  EXPECT_TRUE(unseen.find({0, 100}, 400, 1000).empty());
}

TEST(UnseenKeys, BehindTheLastQueryNothingIsSeen) {
  UnseenKeys unseen(zoo::causal(), 1, 1, 4);
  EXPECT_EQ(unseen.find({0, 3}, 12, 12), (std::vector<PageRange>{{0, 3}}));
}

Reach reach(const std::string& variant, std::int64_t context, std::int64_t page_tokens) {
  UnseenKeys unseen(parse_variant(variant), 1, 1, page_tokens);
  return reach_of(unseen, context, page_tokens);
}

TEST(Reach, OfWindowsAndFirstTokens) {
  EXPECT_FALSE(reach("causal()", 8192, 16).past_context);
  const Reach window = reach("window(512)", 8192, 16);
  EXPECT_TRUE(window.past_context);
  EXPECT_EQ(window.first_pages, 0);
  EXPECT_EQ(window.seen_tokens, 512);
  const Reach streaming = reach("streaming_llm(20, 512)", 8192, 16);
  EXPECT_TRUE(streaming.past_context);
  EXPECT_EQ(streaming.first_pages, 2);
  EXPECT_EQ(streaming.seen_tokens, 512 + 32);
  EXPECT_EQ(streaming.chunk_tokens, 8192 - 512 - 32 - 16);
  // A window as wide as the context leaves no room to move in.
  EXPECT_FALSE(reach("streaming_llm(4, 8192)", 8192, 16).past_context);
  // What sees its own block only drops pages, but first tokens and window are not what it is made of.
  EXPECT_FALSE(reach("causal() & keep((query - key) % 64 == 0 or query - key < 64)", 8192, 16).past_context);
}

}  // namespace
}  // namespace tilewise::runtime
