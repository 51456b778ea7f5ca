// The same bits on any number of threads, in any executor, beside other calls, whatever else is in the batch.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <thread>

#include "tests/attention/oracle.h"

namespace tilewise::attention::testing {
namespace {

using reference::Array;
using reference::AttentionData;

/// Everything that a forward and a backward call write, as bits.
struct Results {
  std::vector<double> values;

  void add(const Array& array) {
    for (std::int64_t i = 0; i < array.size(); ++i) values.push_back(array.get(i));
  }
  bool same_bits(const Results& other) const {
    return values.size() == other.values.size() &&
           std::memcmp(values.data(), other.values.data(), values.size() * sizeof(double)) == 0;
  }
};

struct Case {
  Variant variant;
  reference::Shape shape;
  Bound bound;
  bool backward = true;

  Plan plan_on(Executor& executor) const {
    return Attention(variant).plan(plan_shape(shape, DType::float32, backward, bound), Device::cpu(executor));
  }
  Results run(Executor& executor) const { return run(plan_on(executor)); }

  Results run(const Plan& plan) const {
    AttentionData data(shape, 3, DType::float32, DType::float32);
    data.inputs.tables = bound.tables;
    data.inputs.parameters = bound.parameters;
    data.inputs.seed = 5;
    for (Array* array : {&data.o, &data.lse, &data.d_q, &data.d_k, &data.d_v}) array->fill(0);
    plan.forward(data.inputs, data.outputs());
    Results results;
    results.add(data.o);
    results.add(data.lse);
    if (!backward) return results;
    const BackwardInputs given = data.given_with_outputs();
    BackwardOutputs outputs = data.gradients();
    std::vector<std::vector<float>> gradients;
    gradients.reserve(bound.tables.size());
    for (const auto& [table, tensor] : bound.tables) {
      if (table.type() != Type::real) continue;
      auto& memory = gradients.emplace_back(static_cast<std::size_t>(tensor.elements()));
      outputs.d_tables.push_back(
          {table, Tensor(memory.data(), DType::float32,
                         std::span(tensor.extents.data(), static_cast<std::size_t>(tensor.rank)))});
    }
    plan.backward(data.inputs, given, outputs);
    for (Array* array : {&data.d_q, &data.d_k, &data.d_v}) results.add(*array);
    for (const auto& gradient : gradients)
      results.values.insert(results.values.end(), gradient.begin(), gradient.end());
    return results;
  }
};

std::vector<Case> cases() {
  const Table diagonal("diagonal", DType::float32, 1), shared("shared", DType::float32, 2);
  const Variant biased =
      keep([](const At& at) { return at.query >= at.key; }) & score([&](Expr s, const At& at) {
        return s + diagonal.clamped(at.query - at.key) + shared.clamped(at.query_index, at.key_index);
      }) &
      dropout(0.2);
  std::vector<Case> all{{.variant = biased, .shape = uniform(2, 4, 2, 200, 300, 16, 8), .bound = {}},
                        {.variant = biased, .shape = uniform(1, 8, 1, 1000, 1000, 8, 8), .bound = {}},
                        {.variant = {}, .shape = uniform(3, 8, 2, 2, 3000, 32, 32), .bound = {}, .backward = false}};
  for (Case& c : all) {
    c.bound = bind_random(c.variant, problem_of(c.shape), 1);
    // More elements than a worker keeps for itself, and fewer.
    for (std::size_t i = 0; i < c.bound.tables.size(); ++i) {
      const Table table = c.bound.tables[i].table;
      const std::vector<std::int64_t> extents =
          table.rank() == 1 ? std::vector<std::int64_t>{50} : std::vector<std::int64_t>{200, 300};
      auto memory = std::make_shared<std::vector<std::byte>>(
          static_cast<std::size_t>(Tensor(nullptr, DType::float32, extents).elements() * 4));
      c.bound.tables[i].data = ConstTensor(memory->data(), DType::float32, extents);
      c.bound.shapes[i].extents = extents;
      c.bound.memory.push_back(std::move(memory));
    }
  }
  return all;
}

class LastFirst final : public Executor {
 public:
  int workers() const override { return 3; }
  void run(int jobs, Job job, void* context) override {
    for (int i = jobs; i-- > 0;) job(context, i);
  }
};

TEST(Threads, ChangeNoBit) {
  for (const Case& c : cases()) {
    const auto one = make_thread_pool(1);
    const Results expected = c.run(*one);
    for (const int workers : {2, 3, 4, 5, 6, 7, 8}) {
      const auto pool = make_thread_pool(workers);
      EXPECT_TRUE(c.run(*pool).same_bits(expected)) << workers << " workers";
    }
    LastFirst strange;
    EXPECT_TRUE(c.run(strange).same_bits(expected));
    EXPECT_TRUE(c.run(default_executor()).same_bits(expected));
  }
}

TEST(Threads, ShareAPlan) {
  const Case c = cases()[0];
  const auto pool = make_thread_pool(3);
  const Plan plan = c.plan_on(*pool);
  const Results expected = c.run(plan);
  std::vector<std::thread> callers;
  std::atomic<int> same = 0;
  for (int i = 0; i < 8; ++i) callers.emplace_back([&] { same += c.run(plan).same_bits(expected); });
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(same, 8);
}

TEST(Threads, ServeCallsFromWithinACallersParallelRegion) {
  const Case c = cases()[0];
  const auto pool = make_thread_pool(3);
  const Results expected = c.run(*pool);
  // In the very executor that the calls then use, and in another.
  for (Executor* of_calls : {pool.get(), &default_executor()}) {
    const Plan plan = c.plan_on(*of_calls);
    std::atomic<int> same = 0;
    pool->parallel_for(6, [&](std::int64_t, int) { same += c.run(plan).same_bits(expected); });
    EXPECT_EQ(same, 6);
  }
}

/// A caller's pool whose threads take up other work while they wait, here on one thread: within the first run it does
/// another call.
class Stealing final : public Executor {
 public:
  int workers() const override { return 2; }
  void run(int jobs, Job job, void* context) override {
    job(context, 0);
    if (const auto stolen = std::exchange(other_work, nullptr)) stolen();
    for (int i = 1; i < jobs; ++i) job(context, i);
  }

  std::function<void()> other_work;
};

TEST(Threads, RunOneCallWithinAnother) {
  auto all = cases();
  all.erase(all.begin() + 1);  // the long one
  Stealing executor;
  for (const Case& outer : all) {
    for (const Case& inner : all) {
      const Plan of_outer = outer.plan_on(executor), of_inner = inner.plan_on(executor);
      const Results alone = outer.run(of_outer), inner_alone = inner.run(of_inner);
      Results within;
      executor.other_work = [&] { within = inner.run(of_inner); };
      EXPECT_TRUE(outer.run(of_outer).same_bits(alone));
      EXPECT_TRUE(within.same_bits(inner_alone));
    }
  }
}

TEST(Threads, WorkInAChildProcess) {
  const Case c = cases()[0];
  const Plan plan = c.plan_on(default_executor());
  const Results expected = c.run(plan);  // its threads are running
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) _exit(c.run(plan).same_bits(expected) && c.run(default_executor()).same_bits(expected) ? 0 : 1);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  EXPECT_TRUE(c.run(plan).same_bits(expected));
}

TEST(Threads, SequencesDoNotSeeEachOther) {
  // The first sequence of a batch of one, and of a batch of many others.
  const auto first_of = [](std::vector<Sequence> sequences, std::int64_t s_q) {
    reference::Shape shape{.h_q = 2, .h_kv = 1, .d_qk = 8, .d_v = 8, .sequences = std::move(sequences)};
    AttentionData data(shape, 3, DType::float32, DType::float32);
    AttentionData alone(uniform(1, 2, 1, s_q, 700, 8, 8), 3, DType::float32, DType::float32);
    alone.for_each_query([&](std::int64_t i, const Sequence& sequence, std::int64_t head, std::int64_t row) {
      for (std::int64_t c = 0; c < 8; ++c)
        data.q.set(data.q.place(i, head, row, sequence.first_query_token, c), alone.at_query(alone.q, i, head, row, c));
    });
    alone.for_each_key([&](std::int64_t i, const Sequence& sequence, std::int64_t head, std::int64_t row) {
      for (std::int64_t c = 0; c < 8; ++c) {
        data.k.set(data.k.place(i, head, row, sequence.first_key_token, c), alone.at_key(alone.k, i, head, row, c));
        data.v.set(data.v.place(i, head, row, sequence.first_key_token, c), alone.at_key(alone.v, i, head, row, c));
      }
    });
    const Plan plan = Attention().plan(plan_shape(shape, DType::float32, false, {}));
    plan.forward(data.inputs, data.outputs());
    Results results;
    data.for_each_query([&](std::int64_t i, const Sequence&, std::int64_t head, std::int64_t row) {
      for (std::int64_t c = 0; c < 8 && i == 0; ++c) results.values.push_back(data.at_query(data.o, i, head, row, c));
    });
    return results;
  };
  for (const std::int64_t s_q : {3, 300}) {
    const Sequence first{.s_q = s_q, .s_kv = 700};
    EXPECT_TRUE(
        first_of({first}, s_q).same_bits(first_of({first, {.s_q = 900, .s_kv = 20}, {.s_q = 1, .s_kv = 5000}}, s_q)));
  }
}

}  // namespace
}  // namespace tilewise::attention::testing
