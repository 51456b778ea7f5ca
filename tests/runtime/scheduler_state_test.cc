// The scheduler as a state machine: requests join, leave and are cancelled at random, on caches that are too small for
// them all. Nothing is lost, told twice or out of order; each sample's tokens are those that it has alone.
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "tests/runtime/fake_model.h"

namespace tilewise::runtime {
namespace {

struct Submitted {
  Request request;
  bool is_cancelled = false;
};

class Machine {
 public:
  explicit Machine(std::uint64_t seed) : random_(seed), kind_(seed % 3) {
    const std::int64_t page_tokens = 1 + below(9);
    const std::int64_t context = 40 + below(100);
    const std::int64_t pages = 2 * (context / page_tokens + 2) + below(30);
    SchedulerLimits limits{.chunk_tokens = 1 + below(40), .most_sequences = 4 + below(12)};
    const auto window = static_cast<std::int32_t>(8 + below(12));
    if (kind_ == 0) {
      bench_ = std::make_unique<Bench>(context, pages, page_tokens, limits);
    } else if (kind_ == 1) {
      bench_ = std::make_unique<Bench>(
          context, pages, page_tokens, limits, zoo::window(window),
          [window](std::int64_t query, std::int64_t key) { return key <= query && query - key < window; });
    } else {
      bench_ = std::make_unique<Bench>(
          context, pages, page_tokens, limits, zoo::streaming_llm(3, window),
          [window](std::int64_t query, std::int64_t key) { return key <= query && (query - key < window || key < 3); });
      bench_->model.first_tokens = bench_->scheduler.reach().first_pages * page_tokens;
    }
    limits_ = limits;
  }

  void run(int operations) {
    for (int i = 0; i < operations && !::testing::Test::HasFailure(); ++i) {
      const std::int64_t choice = below(20);
      if (choice < 5) submit();
      if (choice == 5) cancel();
      if (choice > 5) step();
    }
    for (int i = 0; !bench_->scheduler.is_idle() && !::testing::Test::HasFailure(); ++i) {
      step();
      ASSERT_LT(i, 100'000) << "does not end";
    }
    check_end();
  }

  std::int64_t preemptions() const { return bench_->scheduler.account().preemptions; }

 private:
  std::int64_t below(std::int64_t count) {
    return static_cast<std::int64_t>(random_() % static_cast<std::uint64_t>(count));
  }

  void submit() {
    Request request;
    // Few beginnings, so that many have one in common.
    const std::int64_t length = 1 + below(bench_->model.shape().context);
    request.prompt = numbers(below(length + 1), static_cast<std::int32_t>(below(2)));
    while (static_cast<std::int64_t>(request.prompt.size()) < length) {
      request.prompt.push_back(static_cast<std::int32_t>(below(kVocabulary)));
    }
    request.most_tokens = 1 + below(60);
    request.samples = below(4) == 0 ? 1 + below(3) : 1;
    request.sampling = {.temperature = below(2) == 0 ? 0.0 : 0.7, .top_k = below(2) * 20, .seed = random_()};
    request.sampling.repetition_penalty = below(3) == 0 ? 1.3 : 1;
    request.ignore_end = below(2) == 0;
    request.domain = below(8) == 0 ? 1 : 0;
    try {
      const RequestId id = bench_->scheduler.submit(request);
      submitted_[id] = {request};
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), ErrorCode::out_of_memory) << error.what();
    }
  }

  void cancel() {
    if (submitted_.empty()) return;
    auto chosen = submitted_.begin();
    std::advance(chosen, below(static_cast<std::int64_t>(submitted_.size())));
    bench_->scheduler.cancel(chosen->first);
    chosen->second.is_cancelled = true;
  }

  std::optional<RequestId> oldest() const {
    for (const auto& [id, what] : submitted_) {
      for (std::int64_t sample = 0; sample < what.request.samples; ++sample) {
        const auto found = got_.find({id, sample});
        if (found == got_.end() || found->second.finish == Finish::none) return id;
      }
    }
    return std::nullopt;
  }

  void step() {
    const auto old = oldest();
    const std::int64_t before = old ? bench_->scheduler.account(*old).preemptions : 0;
    const auto events = bench_->scheduler.step();
    collect(events, got_);
    for (const TokenEvent& event : events) {
      if (event.token < 0 || !began_.insert(event.request).second) continue;
      EXPECT_GT(event.request, last_began_) << "overtook another";
      last_began_ = event.request;
    }
    const std::int64_t after = old ? bench_->scheduler.account(*old).preemptions : 0;
    EXPECT_EQ(after, before) << "the oldest was pre-empted";
    const KvCacheAccount account = bench_->cache.account();
    EXPECT_LE(account.live_pages, account.pages);
    EXPECT_EQ(account.live_pages + account.reusable_pages + account.free_pages, account.pages);
    EXPECT_LE(bench_->model.largest_chunk, limits_.chunk_tokens);
  }

  void check_end() {
    for (const auto& [id, what] : submitted_) {
      for (std::int64_t sample = 0; sample < what.request.samples; ++sample) {
        SCOPED_TRACE(::testing::Message() << "request " << static_cast<std::int64_t>(id) << ", sample " << sample);
        const auto found = got_.find({id, sample});
        ASSERT_NE(found, got_.end()) << "was lost";
        const Got& got = found->second;
        const Expected expected = bench_->expected(what.request, sample);
        if (got.finish == Finish::cancelled) {
          ASSERT_TRUE(what.is_cancelled);
          ASSERT_LE(got.tokens.size(), expected.tokens.size());
          EXPECT_TRUE(std::equal(got.tokens.begin(), got.tokens.end(), expected.tokens.begin()));
        } else {
          EXPECT_EQ(got.tokens, expected.tokens);
          EXPECT_EQ(got.finish, expected.finish);
        }
      }
    }
    EXPECT_EQ(bench_->cache.account().live_pages, 0) << "pages were lost";
    if (bench_->model.first_tokens > 0) {
      EXPECT_LT(bench_->model.most_distance, bench_->model.shape().context);
    }
  }

  std::mt19937_64 random_;
  std::uint64_t kind_;
  std::unique_ptr<Bench> bench_;
  SchedulerLimits limits_;
  std::map<RequestId, Submitted> submitted_{};
  GotBySample got_{};
  std::set<RequestId> began_{};
  RequestId last_began_ = static_cast<RequestId>(-1);
};

TEST(SchedulerState, RandomOperations) {
  std::int64_t preemptions = 0;
  for (std::uint64_t seed = 0; seed < 240 && !HasFailure(); ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    Machine machine(seed);
    machine.run(300);
    preemptions += machine.preemptions();
  }
  EXPECT_GT(preemptions, 100) << "the caches were too large for this to test anything";
}

}  // namespace
}  // namespace tilewise::runtime
