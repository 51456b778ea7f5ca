// All that a call can be. In pairs: every two values of two axes, named variants among them, meet in some call. And at
// random, which tools/attention_long asks for more of.
#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <random>
#include <string>

#include "tests/attention/product.h"

namespace tilewise::attention::testing {
namespace {

/// Multiplications that the oracle may cost a call: some tenths of a second.
constexpr double kBudget = 1.5e8;

/// A number from the environment.
double number_of(const char* name, double otherwise) {
  const char* text = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): before any thread of ours
  return text == nullptr ? otherwise : std::strtod(text, nullptr);
}

std::uint64_t seed_of_run() { return static_cast<std::uint64_t>(number_of("TILEWISE_PRODUCT_SEED", 1)); }
double budget() { return number_of("TILEWISE_PRODUCT_COST", kBudget); }
bool is_affordable(const Combination& combination) { return cost_of(combination) <= budget(); }

/// Checks a combination and says in failures which it is.
bool check_and_tell(const Combination& combination, std::size_t number, std::uint64_t seed) {
  SCOPED_TRACE("combination " + std::to_string(number) + " of seed " + std::to_string(seed_of_run()) + ": " +
               describe(combination));
  return check(combination, seed);
}

constexpr int kShares = 4;

class Product : public ::testing::TestWithParam<int> {};

TEST_P(Product, IsRightInPairs) {
  const auto rows = pairwise_rows(axis_sizes(), seed_of_run(), is_affordable);
  int refused = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (static_cast<int>(i) % kShares == GetParam()) refused += !check_and_tell(rows[i], i, i + 1);
  }
  EXPECT_LE(refused, static_cast<int>(rows.size() / 100)) << "of " << rows.size();
}

/// The next affordable combination. Seven of ten have a variant made for it, whose arithmetic is richer than most named
/// ones'.
Combination random_combination(std::mt19937_64& random) {
  for (;;) {
    Combination combination;
    for (const int size : axis_sizes())
      combination.push_back(static_cast<int>(random() % static_cast<std::uint64_t>(size)));
    if (random() % 10 < 7) combination[kVariantAxis] %= kFirstNamed;
    if (is_affordable(combination)) return combination;
  }
}

TEST_P(Product, IsRightAtRandom) {
  std::cout << "seed " << seed_of_run() << " of TILEWISE_PRODUCT_SEED, among " << combinations() << " combinations\n";
  const auto calls = static_cast<std::size_t>(number_of("TILEWISE_PRODUCT_CALLS", 80));
  std::mt19937_64 random(seed_of_run());
  int refused = 0;
  for (std::size_t i = 0; i < calls; ++i) {
    const Combination combination = random_combination(random);
    if (static_cast<int>(i) % kShares == GetParam()) refused += !check_and_tell(combination, i, seed_of_run() + i);
  }
  EXPECT_LE(refused, static_cast<int>(calls / 10));
}

INSTANTIATE_TEST_SUITE_P(Shares, Product, ::testing::Range(0, kShares));

class InstructionSets : public ::testing::TestWithParam<const char*> {};

TEST_P(InstructionSets, AreRightAtRandom) {
  const int value = value_of_isa(GetParam());
  if (value < 0) GTEST_SKIP() << "no kernels for " << GetParam() << " here, or the processor lacks it";
  std::mt19937_64 random(seed_of_run());
  for (std::size_t i = 0; i < 24; ++i) {
    Combination combination = random_combination(random);
    combination[axis_of("isa")] = value;
    check_and_tell(combination, i, seed_of_run() + i);
  }
}

INSTANTIATE_TEST_SUITE_P(All, InstructionSets, ::testing::Values("avx2", "avx512", "avx512_vnni", "avx512_bf16", "amx"),
                         [](const auto& of) { return std::string(of.param); });

}  // namespace
}  // namespace tilewise::attention::testing
