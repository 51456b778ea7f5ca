#include "tests/attention/product.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>

#include "tests/attention/drawn.h"
#include "tests/attention/guarded.h"
#include "tests/attention/verdict.h"
#include "tilewise/error.h"
#include "tilewise/reference.h"

namespace tilewise::attention::testing {
namespace {

using reference::Array;
using reference::AttentionData;

Executor& pool_of(int workers) {
  static std::map<int, std::unique_ptr<Executor>> pools;
  auto& pool = pools[workers];
  if (pool == nullptr) pool = make_thread_pool(workers);
  return *pool;
}

/// TILEWISE_ISA while it lives.
class ChosenIsa {
 public:
  explicit ChosenIsa(const std::string& name) {
    if (const char* set = std::getenv("TILEWISE_ISA")) before_ = set;
    setenv("TILEWISE_ISA", name.c_str(), 1);
  }
  ~ChosenIsa() { before_.empty() ? unsetenv("TILEWISE_ISA") : setenv("TILEWISE_ISA", before_.c_str(), 1); }
  ChosenIsa(const ChosenIsa&) = delete;
  ChosenIsa& operator=(const ChosenIsa&) = delete;

 private:
  std::string before_;
};

/// The largest derivative of a score function here: of the gain.
constexpr double kSteepest = 4;

/// Calls that are judged together where one alone breaks the rule.
constexpr std::uint64_t kCallsTogether = 16;

/// One call in all three ways.
class Check {
 public:
  Check(const Combination& combination, std::uint64_t seed, Verdict& verdict)
      : verdict_(verdict),
        call_(combination),
        variant_(make_variant(combination[kVariantAxis])),
        usual_(call_.shape, seed, call_.dtype, DType::float32),
        of_keys_(call_.shape, seed, call_.kv_dtype, DType::float32),
        exact_(call_.shape, seed, DType::float64, DType::float64),
        bound_(bind_random(variant_, problem_of(call_.shape), seed)) {
    if (combination[kDropoutAxis] == 1 && !variant_.has_dropout()) variant_ = variant_ & dropout(0.25);
    draw(seed);
    usual_.k = of_keys_.k, usual_.v = of_keys_.v, usual_.d_k = of_keys_.d_k, usual_.d_v = of_keys_.d_v;
    place();
    inputs_.scale = call_.scale;
    inputs_.tables = bound_.tables;
    inputs_.parameters = bound_.parameters;
    if (!call_.is_uniform()) inputs_.sequences = call_.shape.sequences;
    inputs_.seed = seed * 0x9e3779b97f4a7c15u;
    inputs_.seed_offset = seed % 5;
  }

  void run() {
    const ChosenIsa isa(isas()[static_cast<std::size_t>(call_.combination[kIsaAxis])]);
    const Plan plan = Attention(variant_).plan(
        shape_of_plan(), Device::cpu(pool_of(value_of(kWorkers, call_.combination, kWorkersAxis))));
    const GuardedBytes memory(plan.workspace_bytes(), false);
    Workspace workspace(memory.bytes());
    ForwardInputs plain = inputs_;
    plain.q = usual_.q.view(), plain.k = usual_.k.view(), plain.v = usual_.v.view();
    plain.sequences = call_.shape.sequences;

    ForwardOutputs outputs{.o = o_.tensor(), .lse = {}};
    if (call_.has_lse) outputs.lse = lse_.tensor();
    plan.forward(inputs_, outputs, workspace);
    standard_attention(variant_, plain, usual_.outputs(), call_.precision());
    standard_attention(variant_, plain, exact_.outputs());
    judge_forward();
    if (call_.backward) backward(plan, plain, workspace);
  }

 private:
  void draw(std::uint64_t seed) {
    Draw draw(call_.combination[kInputsAxis], call_.scale, call_.shape.d_qk, seed);
    usual_.for_each_query([&](std::int64_t i, const Sequence& at, std::int64_t head, std::int64_t row) {
      for (std::int64_t c = 0; c < call_.shape.d_qk; ++c) {
        const std::int64_t place = usual_.q.place(i, head, row, at.first_query_token, c);
        usual_.q.set(place, draw.q(usual_.q.get(place)));
      }
    });
    of_keys_.for_each_key([&](std::int64_t i, const Sequence& at, std::int64_t head, std::int64_t row) {
      if (row < at.key_start) return;
      for (std::int64_t c = 0; c < call_.shape.d_qk; ++c) {
        const std::int64_t place = of_keys_.k.place(i, head, row, at.first_key_token, c);
        of_keys_.k.set(place, draw.k(of_keys_.k.get(place), row));
      }
      for (std::int64_t c = 0; c < call_.shape.d_v; ++c) {
        const std::int64_t place = of_keys_.v.place(i, head, row, at.first_key_token, c);
        of_keys_.v.set(place, draw.v(of_keys_.v.get(place), row));
      }
    });
  }

  /// Copies the inputs to where the plan's call finds them, and back: where storage is shared the last one stays.
  void place() {
    const Layout of_q = value_of(kInputLayouts, call_.combination, kQLayoutAxis);
    const Layout of_kv = value_of(kInputLayouts, call_.combination, kKvLayoutAxis);
    const Layout of_outputs = value_of(kOutputLayouts, call_.combination, kOutputLayoutAxis);
    const std::int64_t d_qk = call_.shape.d_qk, d_v = call_.shape.d_v;
    q_ = make_queries(d_qk, call_.dtype, of_q);
    k_ = make_keys(d_qk, call_.kv_dtype, of_kv);
    v_ = make_keys(d_v, call_.kv_dtype, of_kv);
    d_o_ = make_queries(d_v, call_.dtype, of_q);
    d_lse_ = make_queries(0, lse_dtype(), of_q == Layout::shared ? Layout::padded : of_q);
    o_ = make_queries(d_v, call_.dtype, of_outputs);
    lse_ = make_queries(0, lse_dtype(), of_outputs);
    d_q_ = make_queries(d_qk, call_.dtype, of_outputs);
    d_k_ = make_keys(d_qk, call_.kv_dtype, of_outputs);
    d_v_ = make_keys(d_v, call_.kv_dtype, of_outputs);
    for (const bool back : {false, true}) {
      copy_queries(usual_.q, q_, d_qk, back);
      copy_queries(usual_.d_o, d_o_, d_v, back);
      copy_queries(usual_.d_lse, d_lse_, 1, back);
      copy_keys(usual_.k, k_, d_qk, back);
      copy_keys(usual_.v, v_, d_v, back);
    }
    inputs_ = {.q = q_.view(), .k = k_.view(), .v = v_.view()};
  }

  DType lse_dtype() const { return call_.combination[kLseDTypeAxis] == 0 ? DType::float32 : DType::float64; }

  GuardedTensor make(bool packed, std::int64_t heads, std::int64_t rows, std::int64_t columns, DType dtype,
                     Layout layout) const {
    std::vector<std::int64_t> extents{heads, rows};
    if (!packed) extents.insert(extents.begin(), usual_.b());
    return {extents, columns, dtype, layout, call_.combination[kGuardAxis] == 1};
  }
  GuardedTensor make_queries(std::int64_t columns, DType dtype, Layout layout) const {
    std::int64_t rows = 0;
    for (const Sequence& at : call_.shape.sequences)
      rows = std::max(rows, at.s_q + (call_.shape.queries_packed ? at.first_query_token : 0));
    return make(call_.shape.queries_packed, call_.shape.h_q, rows, columns, dtype, layout);
  }
  GuardedTensor make_keys(std::int64_t columns, DType dtype, Layout layout) const {
    std::int64_t rows = 0;
    for (const Sequence& at : call_.shape.sequences)
      rows = std::max(rows, at.s_kv + (call_.shape.keys_packed ? at.first_key_token : 0));
    return make(call_.shape.keys_packed, call_.shape.h_kv, rows, columns, dtype, layout);
  }

  static void copy(Array& plain, std::int64_t place, GuardedTensor& guarded, std::int64_t i, std::int64_t head,
                   std::int64_t row, std::int64_t token, std::int64_t column, bool back) {
    if (back) {
      plain.set(place, guarded.get(i, head, row, token, column));
    } else {
      guarded.set(i, head, row, token, column, plain.get(place));
    }
  }
  void copy_queries(Array& plain, GuardedTensor& guarded, std::int64_t columns, bool back) const {
    usual_.for_each_query([&](std::int64_t i, const Sequence& at, std::int64_t head, std::int64_t row) {
      for (std::int64_t c = 0; c < columns; ++c)
        copy(plain, plain.place(i, head, row, at.first_query_token, c), guarded, i, head, row, at.first_query_token, c,
             back);
    });
  }
  void copy_keys(Array& plain, GuardedTensor& guarded, std::int64_t columns, bool back) const {
    usual_.for_each_key([&](std::int64_t i, const Sequence& at, std::int64_t head, std::int64_t row) {
      if (row < at.key_start) return;
      for (std::int64_t c = 0; c < columns; ++c)
        copy(plain, plain.place(i, head, row, at.first_key_token, c), guarded, i, head, row, at.first_key_token, c,
             back);
    });
  }

  PlanShape shape_of_plan() const {
    PlanShape shape = plan_shape(call_.shape, call_.dtype, call_.backward, bound_);
    shape.kv_dtype = call_.kv_dtype;
    if (call_.combination[kRoomAxis] == 0 || !variant_.tables().empty()) return shape;
    shape.s_q += 37;
    shape.s_kv = shape.s_kv * 2 + 5;
    shape.b += 1;
    shape.query_tokens.reset();
    shape.key_tokens.reset();
    return shape;
  }

  Errors compare_queries(const Array& exact, GuardedTensor& found, const Array& usual, std::int64_t columns) const {
    Errors errors;
    usual_.for_each_query([&](std::int64_t i, const Sequence& at, std::int64_t head, std::int64_t row) {
      for (std::int64_t c = 0; c < columns; ++c) {
        errors.add(exact_.at_query(exact, i, head, row, c), found.get(i, head, row, at.first_query_token, c),
                   usual_.at_query(usual, i, head, row, c));
        found.own(i, head, row, at.first_query_token, c);
      }
    });
    return errors;
  }
  Errors compare_keys(const Array& exact, GuardedTensor& found, const Array& usual, std::int64_t columns) const {
    Errors errors;
    usual_.for_each_key([&](std::int64_t i, const Sequence& at, std::int64_t head, std::int64_t row) {
      for (std::int64_t c = 0; c < columns; ++c) {
        errors.add(exact_.at_key(exact, i, head, row, c), found.get(i, head, row, at.first_key_token, c),
                   usual_.at_key(usual, i, head, row, c));
        found.own(i, head, row, at.first_key_token, c);
      }
    });
    return errors;
  }

  DType lse_precision() const { return call_.dtype == DType::float64 ? DType::float64 : DType::float32; }

  void judge_forward() {
    verdict_.add("o", compare_queries(exact_.o, o_, usual_.o, call_.shape.d_v), 2, call_.dtype);
    EXPECT_EQ(o_.touched(), 0) << "o: memory outside of every sequence";
    if (!call_.has_lse) return;
    verdict_.add("lse", compare_queries(exact_.lse, lse_, usual_.lse, 1), 2,
                 lse_dtype() == DType::float64 ? lse_precision() : DType::float32);
    EXPECT_EQ(lse_.touched(), 0) << "lse: memory outside of every sequence";
  }

  void backward(const Plan& plan, const ForwardInputs& plain, Workspace& workspace) {
    VariantOutputs found(bound_), usual(bound_), exact(bound_);
    BackwardInputs given{.o = o_.view(), .lse = lse_.view(), .d_o = d_o_.view(), .d_lse = {}};
    if (call_.has_d_lse) given.d_lse = d_lse_.view();
    BackwardOutputs outputs{.d_q = d_q_.tensor(), .d_k = d_k_.tensor(), .d_v = d_v_.tensor()};
    found.add_to(outputs);
    plan.backward(inputs_, given, outputs, workspace);

    BackwardInputs plain_given{.o = {}, .lse = {}, .d_o = usual_.d_o.view(), .d_lse = {}};
    if (call_.has_d_lse) plain_given.d_lse = usual_.d_lse.view();
    BackwardOutputs of_usual = usual_.gradients(), of_exact = exact_.gradients();
    usual.add_to(of_usual), exact.add_to(of_exact);
    standard_attention_backward(variant_, plain, plain_given, of_usual, call_.precision());
    standard_attention_backward(variant_, plain, plain_given, of_exact);

    const Loss loss = loss_of_recomputing();
    const auto rows = static_cast<double>(usual_.d_lse.size());  // of all heads, at least
    const double of_q = loss.d_score * kSteepest * std::fabs(call_.scale) * loss.k;
    const double of_k = loss.d_score * kSteepest * std::fabs(call_.scale) * loss.q * std::sqrt(rows);
    verdict_.add("d_q", compare_queries(exact_.d_q, d_q_, usual_.d_q, call_.shape.d_qk), 3, call_.dtype, of_q);
    verdict_.add("d_k", compare_keys(exact_.d_k, d_k_, usual_.d_k, call_.shape.d_qk), 3, call_.kv_dtype, of_k);
    const Errors d_v = compare_keys(exact_.d_v, d_v_, usual_.d_v, call_.shape.d_v);
    verdict_.add("d_v", d_v, 3, call_.kv_dtype, loss.weight * d_v.magnitude);
    EXPECT_EQ(d_q_.touched(), 0) << "d_q: memory outside of every sequence";
    EXPECT_EQ(d_k_.touched(), 0) << "d_k: memory outside of every sequence";
    EXPECT_EQ(d_v_.touched(), 0) << "d_v: memory outside of every sequence";
    for (std::size_t i = 0; i < found.values.size(); ++i) {
      Errors errors;
      for (std::size_t j = 0; j < found.values[i].size(); ++j)
        errors.add(exact.values[i][j], found.values[i][j], usual.values[i][j]);
      const bool is_table = i < found.tables.size();
      // A parameter multiplies scores, or heads' numbers in a sink.
      const double largest_score = std::fabs(call_.scale) * static_cast<double>(call_.shape.d_qk) * loss.q * loss.k;
      const double slope = is_table ? 1 : std::max(largest_score, static_cast<double>(call_.shape.h_q));
      verdict_.add(is_table ? "gradient of table " + found.tables[i].table.name() : "gradient of a parameter", errors,
                   3, lse_precision(), loss.d_score * slope * std::sqrt(rows));
    }
  }

  /// What a backward pass loses that knows a row by its stored o and lse alone, where standard attention, which keeps
  /// all weights, loses nothing. It shows where those are exact by chance of the inputs: equal scores, weights of 1.
  struct Loss {
    double weight = 0;    // relative, of a weight
    double d_score = 0;   // of the gradient of a score
    double q = 0, k = 0;  // largest elements
  };

  /// Whether rows have many weights below 1, and rounding o costs no more than rounding weights does.
  bool rows_are_ordinary() const {
    const int inputs = call_.combination[kInputsAxis];
    const bool has_few_keys =
        value_of(kKeys, call_.combination, kKeysAxis) < 16 || value_of(kQueries, call_.combination, kQueriesAxis) < 16;
    const bool is_float = call_.dtype == DType::float32;
    if (!is_float && (variant_.has_dropout() || call_.kv_dtype != call_.dtype || !variant_.tables().empty())) {
      return false;
    }
    // Of outliers at thrice the scale lse reaches 600, whose unit in the last place is 6e-5.
    const bool has_large_scores = inputs == 1 && value_of(kScales, call_.combination, kScaleAxis) > 1;
    return !has_few_keys && !has_large_scores && (inputs == 0 || (inputs == 1 && is_float && !variant_.has_dropout()));
  }

  Loss loss_of_recomputing() const {
    Loss loss;
    if (call_.dtype == DType::float64 || rows_are_ordinary()) return loss;
    double v = 0, d_o = 0, lse = 0;
    usual_.for_each_key([&](std::int64_t i, const Sequence& at, std::int64_t head, std::int64_t row) {
      if (row < at.key_start) return;
      for (std::int64_t c = 0; c < call_.shape.d_qk; ++c)
        loss.k = std::max(loss.k, std::fabs(usual_.at_key(usual_.k, i, head, row, c)));
      for (std::int64_t c = 0; c < call_.shape.d_v; ++c)
        v = std::max(v, std::fabs(usual_.at_key(usual_.v, i, head, row, c)));
    });
    usual_.for_each_query([&](std::int64_t i, const Sequence&, std::int64_t head, std::int64_t row) {
      for (std::int64_t c = 0; c < call_.shape.d_qk; ++c)
        loss.q = std::max(loss.q, std::fabs(usual_.at_query(usual_.q, i, head, row, c)));
      double sum = 0;
      for (std::int64_t c = 0; c < call_.shape.d_v; ++c) sum += std::fabs(usual_.at_query(usual_.d_o, i, head, row, c));
      d_o = std::max(d_o, sum);
      const double of_row = std::fabs(exact_.at_query(exact_.lse, i, head, row));
      if (std::isfinite(of_row)) lse = std::max(lse, of_row);
    });
    // lse is in float32, to 2 units in the last place; o, which the rows' sums of d_o * o are taken from, to its dtype;
    // and a score function's derivative has the errors of the functions in it: 7 half units in the last place, tanh's.
    loss.weight = 0x1p-23 * lse;
    loss.d_score =
        v * d_o * (loss.weight + ulp_of(call_.dtype) / 2 + (call_.combination[kVariantAxis] == 0 ? 0 : 7 * 0x1p-24));
    return loss;
  }

  Verdict& verdict_;
  Call call_;
  Variant variant_;
  AttentionData usual_, of_keys_, exact_;  // usual_ holds the inputs, too
  Bound bound_;
  ForwardInputs inputs_;
  GuardedTensor q_, k_, v_, d_o_, d_lse_, o_, lse_, d_q_, d_k_, d_v_;
};

/// A table that is read by position would have to hold 2^31 of them at the extremes: there such variants take others.
Combination without_endless_tables(Combination combination) {
  int& places = combination[kPositionsAxis];
  if (places == kExtremes && takes_named(combination) && !make_variant(combination[kVariantAxis]).tables().empty())
    places = 0;
  return combination;
}

}  // namespace

bool check(const Combination& asked, std::uint64_t seed) {
  const Combination combination = without_endless_tables(asked);
  Verdict verdict;
  try {
    Check(combination, seed, verdict).run();
    // The largest of a handful of rounding errors is chance, and so is standard attention's: a call that breaks the
    // rule is judged again together with others like it.
    for (std::uint64_t again = 1; again < kCallsTogether && !verdict.text().empty(); ++again)
      Check(combination, seed + 1000 * again, verdict).run();
  } catch (const Error& error) {
    // A named variant may read its tables at positions below 0, or beyond them in a plan of longer sequences.
    const bool refused = takes_named(combination) && std::string(error.what()).find("table") != std::string::npos;
    EXPECT_TRUE(refused) << error.what();
    return false;
  }
  EXPECT_EQ(verdict.text(), "");
  return true;
}

}  // namespace tilewise::attention::testing