// Random sequences of operations: the cache against the model, and its account against its own block tables.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>

#include "tests/kv_cache/model.h"
#include "tilewise/error.h"

namespace tilewise::kv_cache {
namespace {

constexpr std::int64_t kLayers = 2, kHeads = 2, kMostSequences = 7, kMostTokens = 40;
constexpr int kRuns = 100, kOperations = 3000;

class Machine {
 public:
  explicit Machine(std::uint32_t seed)
      : random_(seed),
        page_tokens_(1 + below(5)),
        cache_({.layers = kLayers,
                .h_kv = kHeads,
                .d_qk = 2,
                .d_v = 1,
                .page_tokens = page_tokens_,
                .pages = 1 + below(40),
                .dtype = DType::float32}) {}

  void step() {
    const std::int64_t choice = below(100);
    if (model_.sequences.empty() || choice < 15) return start();
    const KvSequence sequence = some();
    if (choice < 50) return append(sequence);
    if (choice < 62) return fork(sequence);
    if (choice < 76) return finish(sequence);
    if (choice < 84) return drop(sequence);
    if (choice < 92) return rewrite(sequence);
    if (choice < 99) return expect_rows(sequence);
    if (below(20) == 0) forget();
  }

  /// Every sequence holds what the model's holds; every page is counted once and rightly.
  void expect_all() {
    std::map<std::int32_t, std::int64_t> owners, tokens;
    for (const auto& [sequence, state] : model_.sequences) {
      expect_rows(sequence);
      const auto table = cache_.block_table(sequence);
      ASSERT_EQ(table.size(), state.dropped.size());
      for (std::size_t i = 0; i < table.size(); ++i) {
        ASSERT_EQ(table[i] == -1, state.dropped[i]);
        if (table[i] < 0) continue;
        ASSERT_LT(table[i], cache_.shape().pages);
        ++owners[table[i]];
        const std::int64_t used = std::min(
            page_tokens_, static_cast<std::int64_t>(state.tokens.size() - i * static_cast<std::size_t>(page_tokens_)));
        // Sharers see a page equally full.
        ASSERT_EQ(tokens.try_emplace(table[i], used).first->second, used);
      }
    }
    expect_account(owners, tokens);
  }

  void finish_all() {
    while (!model_.sequences.empty()) finish(model_.sequences.begin()->first);
    cache_.forget();
    const KvCacheAccount account = cache_.account();
    EXPECT_EQ(account.free_pages, account.pages);
    EXPECT_EQ(account.free_bytes, account.total_bytes);
  }

 private:
  std::int64_t below(std::int64_t count) {
    return static_cast<std::int64_t>(random_() % static_cast<std::uint64_t>(count));
  }

  KvSequence some() {
    auto found = model_.sequences.begin();
    std::advance(found, below(static_cast<std::int64_t>(model_.sequences.size())));
    return found->first;
  }

  // Few different tokens and a common beginning, so that prefixes meet.
  Tokens some_tokens() {
    Tokens tokens(static_cast<std::size_t>(below(kMostTokens)));
    for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = i < 12 ? 7 : static_cast<std::int32_t>(below(2));
    return tokens;
  }

  std::int64_t pages_of(std::size_t tokens) const {
    return (static_cast<std::int64_t>(tokens) + page_tokens_ - 1) / page_tokens_;
  }

  void start() {
    if (static_cast<std::int64_t>(model_.sequences.size()) == kMostSequences) return finish(some());
    ModelSequence state;
    state.domain = below(2);
    const Tokens tokens = some_tokens();
    const std::int64_t available = cache_.pages_available();
    const KvSequence sequence = cache_.start(tokens, state.domain);
    const std::int64_t reused = cache_.length(sequence);
    ASSERT_LE(cache_.pages_available(), available);
    ASSERT_EQ(reused % page_tokens_, 0);
    ASSERT_TRUE(reused == 0 || reused < static_cast<std::int64_t>(tokens.size()));
    expect_longest(state.domain, tokens, reused);
    state.tokens.assign(tokens.begin(), tokens.begin() + reused);
    state.committed = reused / page_tokens_;
    state.dropped.assign(static_cast<std::size_t>(state.committed), false);
    for (std::size_t i = 0; i < state.tokens.size(); ++i) state.rows.push_back(pure_row(state.domain, state.tokens, i));
    model_.sequences.emplace(sequence, state);
    expect_rows(sequence);
    append(sequence, Tokens(tokens.begin() + reused, tokens.end()));
  }

  /// What start() found was committed; and while nothing was evicted, it found all there is.
  void expect_longest(std::int64_t domain, const Tokens& tokens, std::int64_t reused) {
    const auto is_committed = [&](std::int64_t length) {
      return model_.committed.contains({domain, Tokens(tokens.begin(), tokens.begin() + length)});
    };
    if (reused > 0) {
      ASSERT_TRUE(is_committed(reused));
    }
    const std::int64_t next = reused + page_tokens_;
    if (model_.all_kept && cache_.account().evicted_pages == 0 && next < static_cast<std::int64_t>(tokens.size())) {
      ASSERT_FALSE(is_committed(next)) << "a page that is there was not found";
    }
  }

  void append(KvSequence sequence) {
    ModelSequence& state = model_.sequences.at(sequence);
    const auto room = static_cast<std::size_t>(kMostTokens) - std::min<std::size_t>(kMostTokens, state.tokens.size());
    Tokens tokens(static_cast<std::size_t>(below(4)));
    tokens.resize(std::min(tokens.size(), room));
    for (std::int32_t& token : tokens) token = static_cast<std::int32_t>(below(2));
    append(sequence, tokens);
  }

  void append(KvSequence sequence, const Tokens& tokens) {
    ModelSequence& state = model_.sequences.at(sequence);
    const std::int64_t needed = cache_.pages_needed(sequence, static_cast<std::int64_t>(tokens.size()));
    const std::int64_t available = cache_.pages_available();
    const KvCacheAccount before = cache_.account();
    try {
      cache_.append(sequence, tokens);
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), ErrorCode::out_of_memory) << error.what();
      ASSERT_GT(needed, available);
      ASSERT_EQ(cache_.length(sequence), static_cast<std::int64_t>(state.tokens.size()));
      ASSERT_EQ(cache_.account().free_pages, before.free_pages);
      ASSERT_EQ(cache_.account().used_bytes, before.used_bytes);
      return;
    }
    ASSERT_LE(needed, available);
    // Evicting a page may free those behind it too, but never costs more than was said.
    ASSERT_EQ(cache_.pages_available(), available - needed + given_back(before));
    const std::size_t first = state.tokens.size();
    state.tokens.insert(state.tokens.end(), tokens.begin(), tokens.end());
    for (std::size_t i = first; i < state.tokens.size(); ++i) {
      state.rows.push_back(state.pure ? pure_row(state.domain, state.tokens, i) : model_.next_row++);
    }
    state.dropped.resize(static_cast<std::size_t>(pages_of(state.tokens.size())), false);
    write(sequence, first, tokens.size());
    if (below(4) != 0) commit(sequence);
  }

  /// Pages that a copy on append left to nobody: none, since whoever shared the original still has it.
  static std::int64_t given_back(const KvCacheAccount&) { return 0; }

  void commit(KvSequence sequence) {
    ModelSequence& state = model_.sequences.at(sequence);
    cache_.commit(sequence);
    while (state.offered && (state.committed + 1) * page_tokens_ <= static_cast<std::int64_t>(state.tokens.size())) {
      ++state.committed;
      model_.committed.insert(
          {state.domain, Tokens(state.tokens.begin(), state.tokens.begin() + state.committed * page_tokens_)});
    }
  }

  void fork(KvSequence sequence) {
    if (static_cast<std::int64_t>(model_.sequences.size()) == kMostSequences) return finish(sequence);
    const std::int64_t available = cache_.pages_available();
    const ModelSequence copy = model_.sequences.at(sequence);
    model_.sequences.emplace(cache_.fork(sequence), copy);
    ASSERT_EQ(cache_.pages_available(), available);
  }

  void finish(KvSequence sequence) {
    cache_.finish(sequence);
    model_.sequences.erase(sequence);
    EXPECT_THROW(cache_.length(sequence), Error);
  }

  void forget() {
    cache_.forget();
    model_.all_kept = false;
    EXPECT_EQ(cache_.account().reusable_pages, 0);
  }

  void drop(KvSequence sequence) {
    ModelSequence& state = model_.sequences.at(sequence);
    const auto pages = static_cast<std::int64_t>(state.dropped.size());
    const std::int64_t full = static_cast<std::int64_t>(state.tokens.size()) / page_tokens_;
    const std::int64_t first = below(pages + 1), count = below(pages - first + 1);
    if (count > 0 && first + count > full) {
      EXPECT_THROW(cache_.drop_pages(sequence, first, count), Error);
      return;
    }
    cache_.drop_pages(sequence, first, count);
    for (std::int64_t i = first; i < first + count; ++i) state.dropped[static_cast<std::size_t>(i)] = true;
    if (first + count > state.committed) state.offered = false;
  }

  void rewrite(KvSequence sequence) {
    ModelSequence& state = model_.sequences.at(sequence);
    const auto pages = static_cast<std::int64_t>(state.dropped.size());
    if (pages == 0) return;
    const std::int64_t page = below(pages);
    try {
      cache_.make_private(sequence, page, 1);
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), ErrorCode::out_of_memory) << error.what();
      ASSERT_EQ(cache_.pages_available(), 0);
      return;
    }
    state.offered = state.pure = false;
    if (state.dropped[static_cast<std::size_t>(page)]) return;
    const auto first = static_cast<std::size_t>(page * page_tokens_);
    const std::size_t last = std::min(first + static_cast<std::size_t>(page_tokens_), state.tokens.size());
    for (std::size_t i = first; i < last; ++i) state.rows[i] = model_.next_row++;
    write(sequence, first, last - first);
  }

  // Row values tell layers, heads and elements apart.
  static float element(float row, std::int64_t layer, std::int64_t head, int which) {
    return row + static_cast<float>(layer * 1000 + head * 100 + which * 10);
  }

  void write(KvSequence sequence, std::size_t first, std::size_t count) {
    const ModelSequence& state = model_.sequences.at(sequence);
    const auto n = static_cast<std::int64_t>(count);
    std::vector<float> k(static_cast<std::size_t>(kHeads * n * 2)), v(static_cast<std::size_t>(kHeads * n));
    for (std::int64_t layer = 0; layer < kLayers; ++layer) {
      for (std::int64_t at = 0; at < kHeads * n; ++at) {
        const float row = state.rows[first + static_cast<std::size_t>(at % n)];
        k[static_cast<std::size_t>(2 * at)] = element(row, layer, at / n, 0);
        k[static_cast<std::size_t>(2 * at + 1)] = element(row, layer, at / n, 1);
        v[static_cast<std::size_t>(at)] = element(row, layer, at / n, 2);
      }
      cache_.write(sequence, layer, static_cast<std::int64_t>(first), {k.data(), DType::float32, {kHeads, n, 2}},
                   {v.data(), DType::float32, {kHeads, n, 1}});
    }
  }

  /// Reads through the block table, as attention does.
  void expect_rows(KvSequence sequence) {
    const ModelSequence& state = model_.sequences.at(sequence);
    ASSERT_EQ(cache_.length(sequence), static_cast<std::int64_t>(state.tokens.size()));
    const auto table = cache_.block_table(sequence);
    for (std::int64_t layer = 0; layer < kLayers; ++layer) {
      const auto* k = static_cast<const float*>(cache_.k(layer).data);  // [pages, kHeads, page_tokens, 2]
      const auto* v = static_cast<const float*>(cache_.v(layer).data);  // [pages, kHeads, page_tokens, 1]
      for (std::size_t i = 0; i < state.tokens.size(); ++i) {
        const std::size_t place = i / static_cast<std::size_t>(page_tokens_);
        if (state.dropped[place]) continue;
        for (std::int64_t head = 0; head < kHeads; ++head) {
          const std::int64_t row =
              (table[place] * kHeads + head) * page_tokens_ + static_cast<std::int64_t>(i) % page_tokens_;
          ASSERT_EQ(k[2 * row], element(state.rows[i], layer, head, 0));
          ASSERT_EQ(k[2 * row + 1], element(state.rows[i], layer, head, 1));
          ASSERT_EQ(v[row], element(state.rows[i], layer, head, 2));
        }
      }
    }
  }

  void expect_account(const std::map<std::int32_t, std::int64_t>& owners,
                      std::map<std::int32_t, std::int64_t>& tokens) {
    constexpr std::int64_t kSlotBytes = kLayers * kHeads * 3 * 4;
    const KvCacheAccount account = cache_.account();
    std::int64_t used = 0, shared_pages = 0, shared = 0, saved = 0;
    for (const auto& [page, count] : owners) {
      used += tokens[page] * kSlotBytes;
      saved += (count - 1) * tokens[page] * kSlotBytes;
      shared_pages += count > 1;
      shared += count > 1 ? tokens[page] * kSlotBytes : 0;
    }
    const auto live = static_cast<std::int64_t>(owners.size());
    ASSERT_EQ(account.live_pages, live);
    ASSERT_EQ(account.shared_pages, shared_pages);
    ASSERT_EQ(account.live_pages + account.reusable_pages + account.free_pages, account.pages);
    ASSERT_EQ(account.reusable_pages + account.free_pages, cache_.pages_available());
    ASSERT_EQ(account.used_bytes, used);
    ASSERT_EQ(account.shared_bytes, shared);
    ASSERT_EQ(account.saved_bytes, saved);
    ASSERT_EQ(account.wasted_bytes, live * page_tokens_ * kSlotBytes - used);
    ASSERT_EQ(account.used_bytes + account.wasted_bytes + account.reusable_bytes + account.free_bytes,
              account.total_bytes);
  }

  std::mt19937_64 random_;
  std::int64_t page_tokens_;
  KvCache cache_;
  Model model_;
};

TEST(KvCacheStateMachine, BehavesAsTheModel) {
  for (std::uint32_t seed = 0; seed < kRuns; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Machine machine(seed);
    for (int operation = 0; operation < kOperations && !::testing::Test::HasFatalFailure(); ++operation) {
      machine.step();
      if (operation % 8 == 0) machine.expect_all();
    }
    if (::testing::Test::HasFatalFailure()) return;
    machine.finish_all();
  }
}

}  // namespace
}  // namespace tilewise::kv_cache
