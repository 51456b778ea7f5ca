// One product over any kind of stored matrix: close to the mathematics, and independent of threads and of other rows.
#include "nn/linear.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>
#include <vector>

#include "tests/nn/some_weights.h"
#include "tests/refusal.h"

namespace tilewise::nn {
namespace {

constexpr WeightKind kEveryKind[] = {WeightKind::float32, WeightKind::float16, WeightKind::bfloat16, WeightKind::q4_0,
                                     WeightKind::q4_1,    WeightKind::q5_0,    WeightKind::q5_1,     WeightKind::q8_0,
                                     WeightKind::q4_k,    WeightKind::q5_k,    WeightKind::q6_k};

bool is_float(WeightKind kind) { return kind <= WeightKind::bfloat16; }

std::vector<float> normals(std::int64_t count, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = normal(random);
  return values;
}

/// A stored matrix and what it holds.
struct Matrix {
  WeightKind kind;
  std::int64_t rows, columns;
  std::vector<std::byte> stored;
  std::vector<float> values;  // [rows, columns]

  Matrix(WeightKind k, std::int64_t r, std::int64_t c, std::mt19937& random)
      : kind(k), rows(r), columns(c), values(static_cast<std::size_t>(r * c)) {
    if (!is_float(kind)) {
      stored = some_weights(kind, rows * columns, random);
    } else {
      const std::vector<float> numbers = normals(rows * columns, random);
      stored.resize(static_cast<std::size_t>(stored_bytes(kind, rows * columns)));
      for (std::size_t i = 0; i < numbers.size(); ++i) {
        const Float16 half{numbers[i]};
        const Bfloat16 brain{numbers[i]};
        if (kind == WeightKind::float32) std::memcpy(stored.data() + 4 * i, &numbers[i], 4);
        if (kind == WeightKind::float16) std::memcpy(stored.data() + 2 * i, &half, 2);
        if (kind == WeightKind::bfloat16) std::memcpy(stored.data() + 2 * i, &brain, 2);
      }
    }
    io::dequantize(storage_of(kind), stored.data(), rows * columns, values.data());
  }

  Linear linear(Precision precision) const { return {{kind, rows, columns, stored.data()}, precision}; }
};

std::vector<float> product(const Linear& weights, const std::vector<float>& x, std::int64_t tokens,
                           const std::vector<float>& bias = {}, Executor& executor = default_executor()) {
  const std::int64_t stride = weights.rows() + 5;
  std::vector<float> y(static_cast<std::size_t>(tokens * stride), -7.0F);
  LinearScratch scratch;
  const Product products[] = {
      {.weights = &weights, .y = y.data(), .y_stride = stride, .bias = bias.empty() ? nullptr : bias.data()}};
  const Rows rows{.data = x.data(), .count = tokens, .columns = weights.columns(), .stride = weights.columns()};
  multiply(rows, products, scratch, executor);
  return y;
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// The oracle: float64 sums of the stored values. 32 bits' rounding is bounded by the sum of magnitudes.
TEST(Linear, InFloat32IsTheProductOfTheStoredValues) {
  std::mt19937 random(1);
  for (const WeightKind kind : kEveryKind) {
    const Matrix matrix(kind, 150, 256, random);
    const std::vector<float> bias = normals(matrix.rows, random);
    for (const std::int64_t tokens : {1, 2, 17, 600}) {
      const std::vector<float> x = normals(tokens * matrix.columns, random);
      const std::vector<float> y = product(matrix.linear(Precision::precise), x, tokens, bias);
      for (std::int64_t t = 0; t < tokens; ++t) {
        for (std::int64_t r = 0; r < matrix.rows; ++r) {
          double exact = bias[std::size_t(r)], magnitude = std::abs(exact);
          for (std::int64_t i = 0; i < matrix.columns; ++i) {
            const double term = static_cast<double>(matrix.values[std::size_t(r * matrix.columns + i)]) *
                                x[std::size_t(t * matrix.columns + i)];
            exact += term;
            magnitude += std::abs(term);
          }
          const double bound = magnitude * static_cast<double>(matrix.columns) * 0x1p-24;
          ASSERT_NEAR(y[std::size_t(t * (matrix.rows + 5) + r)], exact, bound)
              << to_string(kind) << ", " << tokens << " tokens, token " << t << ", row " << r;
        }
        for (std::int64_t r = 0; r < 5; ++r) ASSERT_EQ(y[std::size_t(t * (matrix.rows + 5) + matrix.rows + r)], -7.0F);
      }
    }
  }
}

// tests/nn/quantised_test.cc proves the kernels; here, that the right rows and tokens reach them.
TEST(Linear, WithRoundedActivationsIsNearTheProductOfTheStoredValues) {
  std::mt19937 random(2);
  for (const WeightKind kind : kQuantisedKinds) {
    const Matrix matrix(kind, 150, 512, random);
    const std::vector<float> bias = normals(matrix.rows, random);
    // Activations are 1 in deviation, so this is the results' sum of squares.
    const double size = std::inner_product(matrix.values.begin(), matrix.values.end(), matrix.values.begin(), 0.0);
    for (const std::int64_t tokens : {1, 2, 17, 600}) {
      const std::vector<float> x = normals(tokens * matrix.columns, random);
      const std::vector<float> precise = product(matrix.linear(Precision::precise), x, tokens, bias);
      const std::vector<float> y = product(matrix.linear(Precision::rounded), x, tokens, bias);
      for (std::int64_t t = 0; t < tokens; ++t) {
        double difference = 0;
        for (std::int64_t r = 0; r < matrix.rows; ++r) {
          const auto i = std::size_t(t * (matrix.rows + 5) + r);
          difference += std::pow(static_cast<double>(y[i]) - precise[i], 2);
        }
        // Steps are about 2.3 / 32767 of a deviation, and errors a step over the root of 12: 2e-5 of the results'
        // deviation. Weights that share a mean make the rows' errors one number, which may be five times that.
        EXPECT_LE(std::sqrt(difference / size), 1e-4) << to_string(kind) << ", token " << t << " of " << tokens;
        EXPECT_GT(difference, 0);
      }
    }
  }
}

TEST(Linear, DoesNotDependOnThreads) {
  std::mt19937 random(3);
  const auto one = make_thread_pool(1), three = make_thread_pool(3);
  for (const WeightKind kind : kEveryKind) {
    const Matrix matrix(kind, 203, 512, random);
    for (const Precision precision : {Precision::rounded, Precision::precise}) {
      const Linear weights = matrix.linear(precision);
      for (const std::int64_t tokens : {1, 3, 40, 700}) {
        const std::vector<float> x = normals(tokens * matrix.columns, random);
        EXPECT_TRUE(same(product(weights, x, tokens, {}, *one), product(weights, x, tokens, {}, *three)))
            << to_string(kind) << ", " << tokens << " tokens";
      }
    }
  }
}

TEST(Linear, WithRoundedActivationsDoesNotDependOnOtherRows) {
  std::mt19937 random(4);
  for (const WeightKind kind : kQuantisedKinds) {
    const Matrix matrix(kind, 203, 512, random);
    const Linear weights = matrix.linear(Precision::rounded);
    const std::vector<float> x = normals(300 * matrix.columns, random);
    const std::vector<float> all = product(weights, x, 300);
    for (const std::int64_t t : {0, 7, 13, 150, 299}) {
      const std::vector<float> row(x.begin() + t * matrix.columns, x.begin() + (t + 1) * matrix.columns);
      const std::vector<float> alone = product(weights, row, 1);
      EXPECT_EQ(std::memcmp(alone.data(), all.data() + t * (matrix.rows + 5), alone.size() * sizeof(float)), 0);
    }
  }
}

TEST(Linear, SeveralProductsShareTheirRows) {
  std::mt19937 random(5);
  const Matrix a(WeightKind::q4_1, 576, 256, random), b(WeightKind::q6_k, 192, 256, random),
      c(WeightKind::float32, 70, 256, random), d(WeightKind::q8_0, 0, 256, random);
  const std::vector<float> bias = normals(192, random);
  const Linear weights[] = {a.linear(Precision::rounded), b.linear(Precision::rounded), c.linear(Precision::rounded),
                            d.linear(Precision::rounded)};
  const std::int64_t tokens = 21;
  std::vector<float> x = normals(tokens * 300, random);  // rows 300 apart
  std::vector<float> y[4];
  std::vector<Product> products;
  for (int i = 0; i < 4; ++i) {
    y[i].resize(std::size_t(tokens * weights[i].rows()));
    products.push_back({.weights = &weights[i], .y = y[i].data(), .y_stride = weights[i].rows()});
  }
  products[1].bias = bias.data();
  LinearScratch scratch;
  multiply({.data = x.data(), .count = tokens, .columns = 256, .stride = 300}, products, scratch);
  std::vector<float> dense;
  for (std::int64_t t = 0; t < tokens; ++t) dense.insert(dense.end(), x.begin() + t * 300, x.begin() + t * 300 + 256);
  for (int i = 0; i < 3; ++i) {
    const std::vector<float> alone = product(weights[i], dense, tokens, i == 1 ? bias : std::vector<float>{});
    for (std::int64_t t = 0; t < tokens; ++t) {
      const std::int64_t rows = weights[i].rows();
      EXPECT_EQ(std::memcmp(alone.data() + t * (rows + 5), y[i].data() + t * rows, std::size_t(rows) * sizeof(float)),
                0);
    }
  }
}

TEST(Linear, ReadsRowsAsFloat32) {
  std::mt19937 random(6);
  for (const WeightKind kind : kEveryKind) {
    const Matrix matrix(kind, 37, 256, random);
    const Linear weights = matrix.linear(Precision::rounded);
    EXPECT_EQ(weights.kind(), kind);
    std::vector<float> row(256);
    for (const std::int64_t r : {0, 15, 16, 36}) {
      weights.read_row(r, row.data());
      EXPECT_EQ(std::memcmp(row.data(), matrix.values.data() + r * 256, 256 * sizeof(float)), 0) << to_string(kind);
    }
    expect_refused([&] { weights.read_row(37, row.data()); }, {"row", "37", "[0, 37)"});
    expect_refused([&] { weights.read_row(-1, row.data()); }, {"row", "-1"});
  }
}

TEST(Linear, TakesFloatsFromAnywhere) {
  std::mt19937 random(7);
  for (const WeightKind kind : {WeightKind::float32, WeightKind::float16, WeightKind::bfloat16}) {
    const Matrix matrix(kind, 20, 33, random);
    std::vector<std::byte> shifted(matrix.stored.size() + 1);
    std::copy(matrix.stored.begin(), matrix.stored.end(), shifted.begin() + 1);
    const Linear weights({kind, 20, 33, shifted.data() + 1}, Precision::precise);
    const std::vector<float> x = normals(4 * 33, random);
    EXPECT_TRUE(same(product(weights, x, 4), product(matrix.linear(Precision::precise), x, 4)));
  }
}

TEST(Linear, WithoutRowsColumnsOrTokensComputesNothingElse) {
  std::mt19937 random(8);
  for (const WeightKind kind : kEveryKind) {
    const Matrix none(kind, 0, 256, random), no_columns(kind, 5, 0, random), some(kind, 5, 256, random);
    const std::vector<float> bias = normals(5, random), x = normals(512, random);
    EXPECT_EQ(product(none.linear(Precision::rounded), x, 2), std::vector<float>(10, -7.0F));
    EXPECT_EQ(product(some.linear(Precision::rounded), {}, 0), std::vector<float>{});
    const std::vector<float> y = product(no_columns.linear(Precision::rounded), {}, 2, bias);
    for (std::size_t i = 0; i < 5; ++i) EXPECT_EQ(y[i], bias[i]) << to_string(kind);
  }
}

TEST(Linear, RefusesWhatDoesNotFit) {
  const std::vector<std::byte> stored(2048);
  expect_refused(
      [&] {
        Linear({WeightKind::q4_1, 4, 40, stored.data()}, Precision::rounded);
      },
      {"[4, 40]", "q4_1", "multiples of 32"});
  expect_refused(
      [&] {
        Linear({WeightKind::q6_k, 1, 128, stored.data()}, Precision::rounded);
      },
      {"[1, 128]", "q6_k", "multiples of 256"});
  expect_refused([&] { Linear({WeightKind::float32, -1, 4, stored.data()}, Precision::rounded); }, {"[-1, 4]"});
  const Linear weights({WeightKind::q4_0, 4, 32, stored.data()}, Precision::rounded), empty;
  LinearScratch scratch;
  std::vector<float> x(64), y(64);
  const auto call = [&](const Rows& rows, const Product& product) {
    return [&, rows, product] { multiply(rows, {&product, 1}, scratch); };
  };
  const Rows rows{.data = x.data(), .count = 1, .columns = 32, .stride = 32};
  expect_refused(call({.data = x.data(), .count = 1, .columns = 64, .stride = 64}, {&weights, y.data(), 4}),
                 {"products[0].weights", "32", "64"});
  expect_refused(call({.data = x.data(), .count = 2, .columns = 32, .stride = 31}, {&weights, y.data(), 4}), {"31"});
  expect_refused(call({.data = x.data(), .count = -2, .columns = 32, .stride = 32}, {&weights, y.data(), 4}), {"-2"});
  expect_refused(call(rows, {&weights, y.data(), 3}), {"products[0].y_stride is 3", "at least 4"});
  expect_refused(call(rows, {&empty, y.data(), 4}), {"products[0].weights is empty"});
  expect_refused(call(rows, {nullptr, y.data(), 4}), {"products[0].weights is empty"});
}

}  // namespace
}  // namespace tilewise::nn
