// Score functions whose values run along diagonals in every way: one number over whole tiles or not, straight, bent.
#pragma once

#include <limits>
#include <string>
#include <vector>

#include "tilewise/zoo.h"

namespace tilewise::cuda::testing {

struct NamedVariant {
  std::string name;
  Variant variant;
};

/// For up to `heads` heads and positions below 8192.
inline std::vector<NamedVariant> diagonal_scores(int heads) {
  const auto table_of = [](int rows, int columns) {
    std::vector<float> values(static_cast<std::size_t>(rows * columns));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i * 7 % 37) / 9 - 2;
    return Table::frozen("bias", ConstTensor(values.data(), DType::float32, {rows, columns}));
  };
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  return {
      {"alibi", zoo::alibi(heads)},
      {"alibi and window", zoo::alibi(heads) & zoo::window(300)},
      {"steep", score([](Expr s, const At& at) { return s - 3.0 * to_real(abs(at.query - at.key)); })},
      {"rising", score([](Expr s, const At& at) { return s + 0.5 * to_real(at.key - at.query); })},
      {"relative position", zoo::relative_position(table_of(heads, 41), 20)},
      {"relative position, causal", zoo::relative_position(table_of(heads, 41), 20) & zoo::causal()},
      {"T5", zoo::t5_buckets(table_of(32, heads), 32, 128, true)},
      {"T5 in one direction", zoo::t5_buckets(table_of(16, heads), 16, 40, false) & zoo::causal()},
      {"far keys removed",
       score([](Expr s, const At& at) { return select(abs(at.query - at.key) > 250, -kInfinity, s); })},
      {"linear in keys", score([](Expr s, const At& at) { return s * 0.5 + to_real(at.key * 3 - 5) * 0.003; })},
      {"in queries and keys",
       score([](Expr s, const At& at) { return s + to_real(at.query) * 0.002 - to_real(2 * at.key) * 0.001; })},
      {"by query",
       score([](Expr s, const At& at) { return s * (1.0 + to_real(at.query) * 0.001) + 0.01 * to_real(at.query); })},
      {"ten operations", score([](Expr s, const At& at) {
         const Expr distance = to_real(at.query - at.key) * 0.01;
         return s * 0.9 + tanh(s * 0.3) - max(distance * distance, 2.0) * 0.5 + to_real(at.key) * 0.001;
       })},
      {"softcap", zoo::softcap(30)},
      {"low softcap", zoo::softcap(1.5)},
      {"softcap of alibi", zoo::alibi(heads) & zoo::softcap(30)},
      {"softcap, then alibi", zoo::softcap(30) & zoo::alibi(heads)},
      {"every third distance",
       score([](Expr s, const At& at) { return s + select((at.query - at.key) % 3 == 0, 0.5, -0.25); })},
  };
}

/// Scores that are chosen, by conditions that they decide themselves.
inline std::vector<NamedVariant> chosen_scores() {
  const auto query = [](const At& at) { return to_real(at.query) * 0.002; };
  const auto distance = [](const At& at) { return to_real(at.query - at.key) * 0.002; };
  return {
      {"a step up to a position", score([=](Expr s, const At& at) {
         return min(query(at) + distance(at), select(s < distance(at), s, s + -1.0));
       })},
      {"a step beside distances",
       score([=](Expr s, const At& at) { return 0.5 * abs(distance(at)) - select(0.75 < s, -0.5, s); })},
      {"clamps", score([=](Expr s, const At& at) {
         return max(min(max(query(at), s), max(s, max(0.25 + s, -0.25))), abs(distance(at)) - 1.0);
       })},
      {"below a product of positions", score([=](Expr s, const At& at) {
         return min(select(to_real(at.key) * 0.002 < 0.3, 1.75, -0.75), query(at) * distance(at) + s * 1.25);
       })},
      {"turned", score([=](Expr s, const At& at) { return distance(at) - max(min(s, s * 0.5 + 0.25), query(at)); })},
  };
}

}  // namespace tilewise::cuda::testing
