// NaN and infinities in the inputs: whom they reach, and whom they must not.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "tests/attention/oracle.h"

namespace tilewise::attention::testing {
namespace {

using reference::Array;
using reference::AttentionData;

constexpr std::int64_t kWindow = 30;

Variant window() {
  return keep([](const At& at) { return at.query >= at.key && at.query - at.key < kWindow; });
}

/// Variants whose row i keeps keys (i - kWindow, i].
std::vector<Variant> variants() {
  return {window(), window() & score([](Expr s, const At&) { return 5 * tanh(s / 5); }),
          window() & sink([](const At&) { return Expr(0.5); }), window() & dropout(0.25),
          score([](Expr s, const At& at) {
            return select(at.query >= at.key && at.query - at.key < kWindow, s, -kInfinity);
          })};
}

struct Case {
  Variant variant;
  DType dtype;
  std::int64_t s_q;  // the last ones of as many positions as keys; few of them are decoded
  bool backward;
};

constexpr std::int64_t kKeys = 250, kColumns = 8;

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Variant& variant : variants()) {
    for (const DType dtype : {DType::float32, DType::bfloat16, DType::float16}) {
      all.push_back({variant, dtype, kKeys, true});
      all.push_back({variant, dtype, kKeys, false});
      if (!variant.has_dropout()) all.push_back({variant, dtype, 5, false});
    }
  }
  return all;
}

AttentionData data_of(const Case& c) {
  AttentionData data(uniform(1, 2, 1, c.s_q, kKeys, kColumns, kColumns), 1, c.dtype, DType::float32);
  return data;
}

void run(const Case& c, AttentionData& data) {
  data.inputs.q = data.q.view(), data.inputs.k = data.k.view(), data.inputs.v = data.v.view();
  const Plan plan = Attention(c.variant).plan(plan_shape(data.shape(), c.dtype, c.backward, {}));
  testing::run(plan, data);
}

bool same(double a, double b) { return std::memcmp(&a, &b, sizeof a) == 0; }

/// Poisons a key of k, and expects rows that do not keep it to have the bits that they have without the poison.
TEST(NonFinite, KeysReachOnlyTheRowsThatKeepThem) {
  for (const Case& c : cases()) {
    for (const double poison : {std::nan(""), kInfinity, -kInfinity}) {
      AttentionData clean = data_of(c), poisoned = clean;
      const std::int64_t key = c.s_q == kKeys ? 101 : 246, first = kKeys - c.s_q;
      poisoned.k.set(poisoned.k.place(0, 0, key, 0, 3), poison);
      run(c, clean), run(c, poisoned);
      SCOPED_TRACE(to_string(c.variant) + ", " + to_string(c.dtype) + ", s_q " + std::to_string(c.s_q) + ", poison " +
                   std::to_string(poison) + (c.backward ? ", backward" : ""));
      int changed = 0, reached = 0;
      clean.for_each_query([&](std::int64_t i, const Sequence&, std::int64_t head, std::int64_t row) {
        const bool keeps = first + row >= key && first + row < key + kWindow;
        const double lse = poisoned.at_query(poisoned.lse, i, head, row);
        if (keeps) {
          reached += !same(lse, clean.at_query(clean.lse, i, head, row));
          if (std::isnan(poison)) {
            EXPECT_TRUE(std::isnan(poisoned.at_query(poisoned.o, i, head, row)));
          }
          return;
        }
        changed += !same(lse, clean.at_query(clean.lse, i, head, row));
        for (std::int64_t column = 0; column < kColumns; ++column) {
          changed +=
              !same(poisoned.at_query(poisoned.o, i, head, row, column), clean.at_query(clean.o, i, head, row, column));
          changed += c.backward && !same(poisoned.at_query(poisoned.d_q, i, head, row, column),
                                         clean.at_query(clean.d_q, i, head, row, column));
        }
      });
      EXPECT_EQ(changed, 0);
      EXPECT_GT(reached, 0);
    }
  }
}

/// A query reaches its own row alone, forward.
TEST(NonFinite, QueriesReachTheirOwnRowAlone) {
  for (const Case& c : cases()) {
    AttentionData clean = data_of(c), poisoned = clean;
    const std::int64_t query = c.s_q / 2;
    poisoned.q.set(poisoned.q.place(0, 1, query, 0, 2), std::nan(""));
    run(c, clean), run(c, poisoned);
    clean.for_each_query([&](std::int64_t i, const Sequence&, std::int64_t head, std::int64_t row) {
      if (head == 1 && row == query) {
        EXPECT_TRUE(std::isnan(poisoned.at_query(poisoned.o, i, head, row)));
        EXPECT_TRUE(std::isnan(poisoned.at_query(poisoned.lse, i, head, row)));
        return;
      }
      ASSERT_TRUE(same(poisoned.at_query(poisoned.lse, i, head, row), clean.at_query(clean.lse, i, head, row)));
      for (std::int64_t column = 0; column < kColumns; ++column) {
        ASSERT_TRUE(
            same(poisoned.at_query(poisoned.o, i, head, row, column), clean.at_query(clean.o, i, head, row, column)));
        if (c.backward) {
          ASSERT_TRUE(same(poisoned.at_query(poisoned.d_q, i, head, row, column),
                           clean.at_query(clean.d_q, i, head, row, column)));
        }
      }
    });
  }
}

/// A value reaches the rows that keep its key, and at most those of the same tile: never ones a tile away.
TEST(NonFinite, ValuesStayWithinTheirTile) {
  for (const Case& c : cases()) {
    AttentionData clean = data_of(c), poisoned = clean;
    const std::int64_t key = 20, first = kKeys - c.s_q;
    if (first > key + kWindow) continue;
    poisoned.v.set(poisoned.v.place(0, 0, key, 0, 5), kInfinity);
    run(c, clean), run(c, poisoned);
    clean.for_each_query([&](std::int64_t i, const Sequence&, std::int64_t head, std::int64_t row) {
      const double found = poisoned.at_query(poisoned.o, i, head, row, 5);
      if (row >= key && row < key + kWindow && !c.variant.has_dropout()) {
        EXPECT_FALSE(std::isfinite(found));
      }
      // Rows from 158 on keep no key of the first 128, which is the longest tile.
      if (row >= 158) {
        ASSERT_TRUE(same(found, clean.at_query(clean.o, i, head, row, 5)));
      }
    });
  }
}

/// A row that keeps nothing is 0 with lse -inf, and gives no gradient, whatever the inputs hold.
TEST(NonFinite, RowsThatKeepNothingTakeNothing) {
  const Variant nothing = keep([](const At& at) { return at.key > at.query + 1000; });
  for (const DType dtype : {DType::float32, DType::bfloat16, DType::float16}) {
    for (const std::int64_t s_q : {3, 60}) {
      Case c{nothing, dtype, s_q, s_q > 3};
      AttentionData data = data_of(c);
      for (Array* array : {&data.q, &data.k, &data.v, &data.d_o, &data.d_lse}) array->fill(std::nan(""));
      run(c, data);
      data.for_each_query([&](std::int64_t i, const Sequence&, std::int64_t head, std::int64_t row) {
        EXPECT_EQ(data.at_query(data.lse, i, head, row), -kInfinity);
        for (std::int64_t column = 0; column < kColumns; ++column) {
          EXPECT_EQ(data.at_query(data.o, i, head, row, column), 0);
          if (!c.backward) continue;
          EXPECT_EQ(data.at_query(data.d_q, i, head, row, column), 0);
        }
      });
      data.for_each_key([&](std::int64_t i, const Sequence&, std::int64_t head, std::int64_t row) {
        for (std::int64_t column = 0; column < kColumns && c.backward; ++column) {
          EXPECT_EQ(data.at_key(data.d_k, i, head, row, column), 0);
          EXPECT_EQ(data.at_key(data.d_v, i, head, row, column), 0);
        }
      });
    }
  }
}

/// Also where other rows of its tile keep something.
TEST(NonFinite, GradientsOfORowThatKeepsNothingReachNobody) {
  constexpr std::int64_t kRow = 101;
  const Variant all_but_one = keep([](const At& at) { return at.query_index != kRow && at.query >= at.key; });
  for (const DType dtype : {DType::float32, DType::bfloat16, DType::float16}) {
    Case c{all_but_one, dtype, kKeys, true};
    AttentionData clean = data_of(c), poisoned = clean;
    for (std::int64_t column = 0; column < kColumns; ++column)
      poisoned.d_o.set(poisoned.d_o.place(0, 0, kRow, 0, column), column % 2 == 0 ? std::nan("") : kInfinity);
    run(c, clean), run(c, poisoned);
    clean.for_each_query([&](std::int64_t i, const Sequence&, std::int64_t head, std::int64_t row) {
      for (std::int64_t column = 0; column < kColumns; ++column) {
        const double found = poisoned.at_query(poisoned.d_q, i, head, row, column);
        ASSERT_TRUE(same(found, clean.at_query(clean.d_q, i, head, row, column))) << row;
      }
    });
    clean.for_each_key([&](std::int64_t i, const Sequence&, std::int64_t head, std::int64_t row) {
      for (std::int64_t column = 0; column < kColumns; ++column) {
        ASSERT_TRUE(
            same(poisoned.at_key(poisoned.d_k, i, head, row, column), clean.at_key(clean.d_k, i, head, row, column)))
            << row;
        ASSERT_TRUE(
            same(poisoned.at_key(poisoned.d_v, i, head, row, column), clean.at_key(clean.d_v, i, head, row, column)))
            << row;
      }
    });
  }
}

/// The gradient of a table to which an entry gives NaN is NaN everywhere, and that of one to which none does is not.
TEST(NonFinite, GradientsOfTablesAreNaNEverywhereOrNowhere) {
  const Table reached("reached", DType::float32, 1), spared("spared", DType::float32, 1);
  const Variant variant = score([&](Expr s, const At& at) {
    return select(at.head == 0, s + reached.clamped(at.key_index), s + spared.clamped(at.key_index));
  });
  AttentionData data(uniform(1, 2, 2, 70, 90, 8, 8), 1, DType::float32, DType::float32);
  data.q.set(data.q.place(0, 0, 33, 0, 1), std::nan(""));
  std::vector<float> values(50), d_reached(50), d_spared(50);
  for (const Table& table : {reached, spared})
    data.inputs.tables.push_back({table, ConstTensor(values.data(), DType::float32, {50})});
  PlanShape shape = plan_shape(data.shape(), DType::float32, true, {});
  shape.tables = {{reached, {50}}, {spared, {50}}};
  const Plan plan = Attention(variant).plan(shape);
  plan.forward(data.inputs, data.outputs());
  plan.backward(data.inputs, data.given_with_outputs(),
                {.d_tables = {{reached, Tensor(d_reached.data(), DType::float32, {50})},
                              {spared, Tensor(d_spared.data(), DType::float32, {50})}}});
  for (const float value : d_reached) EXPECT_TRUE(std::isnan(value));
  for (const float value : d_spared) EXPECT_TRUE(std::isfinite(value) && value != 0);
}

}  // namespace
}  // namespace tilewise::attention::testing
