// Single properties of the scheduler, each on a case made for it. The fake model's answers are known.
#include <gtest/gtest.h>

#include "tests/runtime/fake_model.h"
#include "tilewise/error.h"

namespace tilewise::runtime {
namespace {

GotBySample run(Scheduler& scheduler) {
  GotBySample got;
  while (!scheduler.is_idle()) collect(scheduler.step(), got);
  return got;
}

Request request_of(std::vector<std::int32_t> prompt, std::int64_t most_tokens) {
  return {.prompt = std::move(prompt), .most_tokens = most_tokens, .ignore_end = true};
}

void expect_as_alone(const Bench& bench, const Request& request, const Got& got, std::int64_t sample = 0) {
  const Expected expected = bench.expected(request, sample);
  EXPECT_EQ(got.tokens, expected.tokens);
  EXPECT_EQ(got.finish, expected.finish);
}

TEST(Scheduler, OneRequest) {
  Bench bench(64, 8, 8, {.chunk_tokens = 16});
  for (const std::int64_t length : {1, 7, 8, 9, 16, 17, 40, 64}) {
    const Request request = request_of(numbers(length), 64);
    const RequestId id = bench.scheduler.submit(request);
    expect_as_alone(bench, request, run(bench.scheduler).at({id, 0}));
  }
  EXPECT_EQ(bench.cache.account().live_pages, 0);
}

TEST(Scheduler, ChunksEndAtMultiplesWhateverElseIsUnderWay) {
  Bench bench(256, 64, 8, {.chunk_tokens = 32});
  bench.scheduler.submit(request_of(numbers(10, 3), 40));
  bench.scheduler.submit(request_of(numbers(100, 5), 3));
  EXPECT_EQ(bench.scheduler.step().size(), 1u);  // the first one's token; the second one's chunk would exceed the step
  std::vector<std::int64_t> computed;
  for (int i = 0; i < 4; ++i) {
    const std::int64_t before = bench.model.computed_tokens;
    bench.scheduler.step();
    computed.push_back(bench.model.computed_tokens - before - 1);  // less the first one's token
  }
  EXPECT_EQ(computed, (std::vector<std::int64_t>{32, 32, 32, 4}));
}

TEST(Scheduler, EverySampleUnderWayGetsATokenEachStep) {
  Bench bench(512, 512, 8, {.chunk_tokens = 16});
  std::map<RequestId, int> got;
  std::vector<RequestId> early;
  for (int i = 0; i < 4; ++i) early.push_back(bench.scheduler.submit(request_of(numbers(4, i), 60)));
  bench.scheduler.step();
  // A long prompt joins, which takes 16 steps. Nobody stalls meanwhile.
  bench.scheduler.submit(request_of(numbers(256, 9), 1));
  for (int step = 0; step < 16; ++step) {
    const auto events = bench.scheduler.step();
    std::map<RequestId, int> of_step;
    for (const TokenEvent& event : events) ++of_step[event.request];
    for (const RequestId id : early) EXPECT_EQ(of_step[id], 1) << "step " << step;
  }
}

TEST(Scheduler, NoRequestOvertakes) {
  // Room for two at a time: short ones behind a long one wait for it.
  Bench bench(128, 20, 8, {.chunk_tokens = 32});
  std::vector<RequestId> order;
  for (const std::int64_t length : {60, 100, 4, 4, 90, 4}) {
    order.push_back(bench.scheduler.submit(request_of(numbers(length, static_cast<std::int32_t>(length)), 5)));
  }
  std::vector<RequestId> first;
  while (!bench.scheduler.is_idle()) {
    for (const TokenEvent& event : bench.scheduler.step()) {
      if (std::ranges::find(first, event.request) == first.end()) first.push_back(event.request);
    }
  }
  EXPECT_EQ(first, order);
}

TEST(Scheduler, AForgottenPrefixIsComputedOnceForAll) {
  // 16 requests at once, 1024 tokens in common: computed once, stored once.
  Bench bench(2048, 4096, 16, {.chunk_tokens = 256});
  const auto prefix = numbers(1024);
  std::vector<Request> requests;
  std::vector<RequestId> ids;
  for (int i = 0; i < 16; ++i) {
    auto prompt = prefix;
    for (const std::int32_t token : numbers(5, 11 * i)) prompt.push_back(token);
    requests.push_back(request_of(prompt, 8));
    ids.push_back(bench.scheduler.submit(requests.back()));
  }
  GotBySample got;
  std::int64_t most_live = 0, most_shared = 0;
  while (!bench.scheduler.is_idle()) {
    collect(bench.scheduler.step(), got);
    most_live = std::max(most_live, bench.cache.account().live_pages);
    most_shared = std::max(most_shared, bench.cache.account().shared_pages);
  }
  for (std::size_t i = 0; i < 16; ++i) expect_as_alone(bench, requests[i], got.at({ids[i], 0}));
  EXPECT_EQ(bench.model.computed_tokens, 1024 + 16 * (5 + 7));
  EXPECT_EQ(most_shared, 1024 / 16);
  EXPECT_EQ(most_live, 1024 / 16 + 16);  // and each request's last page
  EXPECT_EQ(bench.scheduler.account().reused_tokens, 15 * 1024);
}

TEST(Scheduler, SamplesShareThePromptAndDiffer) {
  Bench bench(256, 256, 8, {.chunk_tokens = 64});
  Request request = request_of(numbers(50), 20);
  request.samples = 6;
  request.sampling = {.temperature = 1.5, .seed = 3};
  const RequestId id = bench.scheduler.submit(request);
  const GotBySample got = run(bench.scheduler);
  std::set<std::vector<std::int32_t>> different;
  for (std::int64_t sample = 0; sample < 6; ++sample) {
    expect_as_alone(bench, request, got.at({id, sample}), sample);
    different.insert(got.at({id, sample}).tokens);
  }
  EXPECT_EQ(different.size(), 6u);
  EXPECT_EQ(bench.model.computed_tokens, 50 + 6 * 19);
}

TEST(Scheduler, PreEmptionTakesFromTheYoungestAndLosesNothing) {
  Bench bench(128, 12, 8, {.chunk_tokens = 32});
  std::vector<Request> requests;
  std::vector<RequestId> ids;
  for (int i = 0; i < 3; ++i) {
    requests.push_back(request_of(numbers(20, 100 + 7 * i), 60));
    ids.push_back(bench.scheduler.submit(requests.back()));
  }
  const GotBySample got = run(bench.scheduler);
  for (std::size_t i = 0; i < 3; ++i) expect_as_alone(bench, requests[i], got.at({ids[i], 0}));
  EXPECT_EQ(bench.scheduler.account(ids[0]).preemptions, 0);
  EXPECT_GT(bench.scheduler.account(ids[2]).preemptions, 0);
  EXPECT_GT(bench.scheduler.account().recomputed_tokens, 0);
  EXPECT_EQ(bench.cache.account().live_pages, 0);
}

TEST(Scheduler, PagesThatAWindowLeavesBehindAreFreed) {
  const Sees sees = [](std::int64_t query, std::int64_t key) { return key <= query && query - key < 40; };
  Bench bench(256, 64, 8, {.chunk_tokens = 16}, zoo::window(40), sees);
  ASSERT_TRUE(bench.scheduler.reach().past_context);
  const Request request = request_of(numbers(300), 500);  // three times the context
  const RequestId id = bench.scheduler.submit(request);
  GotBySample got;
  std::int64_t most_live = 0;
  while (!bench.scheduler.is_idle()) {
    collect(bench.scheduler.step(), got);
    most_live = std::max(most_live, bench.cache.account().live_pages);
  }
  expect_as_alone(bench, request, got.at({id, 0}));
  // The window before the last query, the page that it begins in, the chunk.
  EXPECT_LE(most_live, (40 + 16) / 8 + 1);
  EXPECT_TRUE(bench.model.moves.empty());
}

TEST(Scheduler, StreamingKeepsFirstTokensWithinReachInConstantMemory) {
  const Sees sees = [](std::int64_t query, std::int64_t key) { return key <= query && (query - key < 64 || key < 4); };
  Bench bench(128, 32, 8, {.chunk_tokens = 16}, zoo::streaming_llm(4, 64), sees);
  ASSERT_TRUE(bench.scheduler.reach().past_context);
  EXPECT_EQ(bench.scheduler.reach().first_pages, 1);
  bench.model.first_tokens = 8;
  std::vector<Request> requests{request_of(numbers(200), 2000), request_of(numbers(9, 4), 3000)};
  std::vector<RequestId> ids;
  for (const Request& request : requests) ids.push_back(bench.scheduler.submit(request));
  GotBySample got;
  std::int64_t most_live = 0;
  while (!bench.scheduler.is_idle()) {
    collect(bench.scheduler.step(), got);
    most_live = std::max(most_live, bench.cache.account().live_pages);
  }
  for (std::size_t i = 0; i < 2; ++i) expect_as_alone(bench, requests[i], got.at({ids[i], 0}));
  EXPECT_LE(most_live, 2 * ((64 + 16) / 8 + 2));
  EXPECT_LT(bench.model.most_distance, 128);       // inside the trained range
  EXPECT_GE(bench.model.most_distance, 128 - 24);  // and no nearer than it must be: a chunk and a page
  EXPECT_EQ(bench.cache.account().live_pages, 0);
}

TEST(Scheduler, FirstTokensThatAreSharedAreMovedInACopy) {
  const Sees sees = [](std::int64_t query, std::int64_t key) { return key <= query && (query - key < 32 || key < 8); };
  Bench bench(64, 64, 8, {.chunk_tokens = 8}, zoo::streaming_llm(8, 32), sees);
  bench.model.first_tokens = 8;
  const auto prompt = numbers(20);
  const RequestId far = bench.scheduler.submit(request_of(prompt, 200));
  for (int i = 0; i < 120; ++i) bench.scheduler.step();
  // The first request is past the context. Another one with the same prompt finds the first page as it was.
  const Request request = request_of(prompt, 10);
  const RequestId near = bench.scheduler.submit(request);
  const GotBySample got = run(bench.scheduler);
  expect_as_alone(bench, request, got.at({near, 0}));
  EXPECT_GE(bench.scheduler.account(near).reused_tokens, 8);
  EXPECT_EQ(bench.scheduler.account(far).preemptions, 0);
}

TEST(Scheduler, EndsAtTheContext) {
  Bench bench(32, 8, 8, {.chunk_tokens = 16});
  const Request request = request_of(numbers(30), 100);
  const RequestId id = bench.scheduler.submit(request);
  const Got got = run(bench.scheduler).at({id, 0});
  expect_as_alone(bench, request, got);
  EXPECT_EQ(got.finish, Finish::context);
  EXPECT_EQ(got.tokens.size(), 3u);  // behind positions 29, 30 and 31
}

TEST(Scheduler, CancelledRequestsGiveBackTheirPages) {
  Bench bench(128, 64, 8, {.chunk_tokens = 32});
  Request request = request_of(numbers(20), 50);
  request.samples = 3;
  const RequestId running = bench.scheduler.submit(request), waiting = bench.scheduler.submit(request);
  bench.scheduler.step();
  bench.scheduler.cancel(running);
  bench.scheduler.cancel(waiting);
  GotBySample got;
  collect(bench.scheduler.step(), got);
  EXPECT_EQ(got.size(), 6u);
  for (const auto& [sample, what] : got) EXPECT_EQ(what.finish, Finish::cancelled);
  EXPECT_TRUE(bench.scheduler.is_idle());
  EXPECT_EQ(bench.cache.account().live_pages, 0);
  bench.scheduler.cancel(running);  // has ended: nothing happens
}

TEST(Scheduler, AFailedStepLosesNothing) {
  Bench bench(128, 64, 8, {.chunk_tokens = 32});
  const Request request = request_of(numbers(50), 20);
  const RequestId id = bench.scheduler.submit(request);
  GotBySample got;
  for (int step = 0; !bench.scheduler.is_idle(); ++step) {
    bench.model.fails_next = step == 1 || step == 5;
    if (bench.model.fails_next) {
      EXPECT_THROW(bench.scheduler.step(), Error);
    } else {
      collect(bench.scheduler.step(), got);
    }
  }
  expect_as_alone(bench, request, got.at({id, 0}));
}

TEST(Scheduler, ASecondTurnFindsTheFirst) {
  Bench bench(512, 64, 8, {.chunk_tokens = 32});
  Request request = request_of(numbers(50), 30);
  const RequestId first = bench.scheduler.submit(request);
  auto conversation = request.prompt;
  const auto answer = run(bench.scheduler).at({first, 0}).tokens;
  conversation.insert(conversation.end(), answer.begin(), answer.end());
  for (const std::int32_t token : numbers(9, 50)) conversation.push_back(token);
  const RequestId second = bench.scheduler.submit(request_of(conversation, 3));
  run(bench.scheduler);
  // All but the last, partial page: 79 tokens were computed.
  EXPECT_EQ(bench.scheduler.account(second).reused_tokens, 72);
}

TEST(Scheduler, DomainsShareNothing) {
  Bench bench(256, 64, 8, {.chunk_tokens = 64});
  Request request = request_of(numbers(60), 2);
  bench.scheduler.submit(request);
  request.domain = 1;
  const RequestId other = bench.scheduler.submit(request);
  run(bench.scheduler);
  EXPECT_EQ(bench.scheduler.account(other).reused_tokens, 0);
}

void expect_refused(Bench& bench, const Request& request, ErrorCode code, const std::string& told) {
  try {
    bench.scheduler.submit(request);
    ADD_FAILURE() << "was taken; expected: " << told;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    EXPECT_NE(std::string(error.what()).find(told), std::string::npos) << error.what();
  }
  EXPECT_TRUE(bench.scheduler.is_idle());
}

TEST(Scheduler, RefusesWhatCannotBe) {
  Bench bench(64, 4, 8, {.chunk_tokens = 16, .most_sequences = 4});
  constexpr auto kBad = ErrorCode::invalid_argument;
  expect_refused(bench, request_of({}, 1), kBad, "the prompt has no tokens");
  expect_refused(bench, request_of({-1}, 1), kBad, "token -1");
  expect_refused(bench, request_of({97}, 1), kBad, "token 97");
  expect_refused(bench, request_of(numbers(65), 1), kBad, "65 tokens and the model's context 64");
  expect_refused(bench, request_of({1}, 0), kBad, "most_tokens is 0");
  expect_refused(bench, request_of(numbers(20), 14), ErrorCode::out_of_memory, "4 pages of 8 tokens");
  const auto with = [](auto change) {
    Request request = request_of({1}, 1);
    change(request);
    return request;
  };
  expect_refused(bench, with([](Request& r) { r.samples = 5; }), kBad, "samples is 5");
  expect_refused(bench, with([](Request& r) { r.stop = {"a", ""}; }), kBad, "a stop string is empty");
  expect_refused(bench, with([](Request& r) { r.domain = -1; }), kBad, "domain is -1");
  expect_refused(bench, with([](Request& r) { r.sampling.top_p = 0; }), kBad, "top_p is 0");
  expect_refused(bench, with([](Request& r) { r.sampling.temperature = -1; }), kBad, "temperature is -1");
  expect_refused(bench, with([](Request& r) { r.sampling.logit_bias = {{97, 1.0}}; }), kBad, "token 97");
  expect_refused(bench, with([](Request& r) { r.sampling.logit_bias = {{1, 1.0}, {1, 2.0}}; }), kBad, "twice");
}

TEST(Scheduler, ARequestThatJustFitsIsTaken) {
  Bench bench(64, 4, 8, {.chunk_tokens = 16});
  const Request request = request_of(numbers(20), 13);  // 20 + 12 computed tokens fill 32 places
  const RequestId id = bench.scheduler.submit(request);
  expect_as_alone(bench, request, run(bench.scheduler).at({id, 0}));
}

TEST(Scheduler, NothingToChooseEndsTheSample) {
  Bench bench(64, 16, 8, {.chunk_tokens = 16});
  Request request = request_of(numbers(3), 5);
  for (std::int32_t token = 0; token < kVocabulary; ++token) {
    request.sampling.logit_bias.emplace_back(token, -std::numeric_limits<double>::infinity());
  }
  const RequestId id = bench.scheduler.submit(request);
  EXPECT_EQ(run(bench.scheduler).at({id, 0}).finish, Finish::no_token);
}

}  // namespace
}  // namespace tilewise::runtime
