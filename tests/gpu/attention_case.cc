#include "tests/gpu/attention_case.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cuda/launch/bound_variant.h"
#include "cuda/launch/sequences.h"
#include "tests/gpu/host_tensor.h"
#include "tests/gpu/made_lists.h"
#include "tests/laws/reading.h"
#include "tiles/classify.h"
#include "variant/place.h"

namespace tilewise::cuda::testing {
namespace {

/// One row of standard attention.
template <class Real>
class Row {
 public:
  Row(const Case& given, const CaseInputs& inputs, variant::ScalarReading<Real>& reading, bool rounds)
      : given_(given), inputs_(inputs), reading_(reading), rounds_(rounds) {}

  void append_to(Answer& answer, std::int64_t b, std::int64_t h, std::int64_t query) {
    const Sequence& sequence = given_.problem.sequences[static_cast<std::size_t>(b)];
    const std::int64_t kv_head = h / (given_.problem.h_q / given_.problem.h_kv);
    const Real lowest = -std::numeric_limits<Real>::infinity();
    std::vector<Real> weights;
    Real largest = lowest;
    for (std::int64_t key = sequence.key_start; key < sequence.s_kv; ++key) {
      weights.push_back(score(sequence, b, h, kv_head, query, key));
      largest = std::max(largest, weights.back());
    }
    const std::optional<Real> sink = sink_logit();
    if (sink) largest = std::max(largest, *sink);
    Real sum = sink && largest != lowest ? std::exp(*sink - largest) : 0;
    for (Real& weight : weights) {
      weight = largest == lowest ? 0 : std::exp(weight - largest);
      sum += weight;
    }
    answer.lse.push_back(static_cast<double>(sum == 0 ? lowest : largest + std::log(sum)));
    for (std::int64_t i = 0; i < given_.d_v; ++i) {
      Real total = 0;
      for (std::int64_t key = sequence.key_start; key < sequence.s_kv; ++key) {
        Real weight = weights[static_cast<std::size_t>(key - sequence.key_start)];
        if (weight == 0) continue;
        if (given_.dropout) weight *= dropout_factor(key, query, b * given_.problem.h_q + h);
        total += round(weight / sum) * static_cast<Real>(inputs_.v.at(batch_of(given_, b), kv_head,
                                                                      first_row(given_, sequence, false) + key, i));
      }
      answer.o.push_back(static_cast<double>(round(total)));
    }
  }

 private:
  Real round(Real value) const {
    return rounds_ ? static_cast<Real>(rounded(given_.dtype, static_cast<double>(value))) : value;
  }

  Real score(const Sequence& sequence, std::int64_t b, std::int64_t h, std::int64_t kv_head, std::int64_t query,
             std::int64_t key) {
    Real product = 0;
    for (std::int64_t i = 0; i < given_.d_qk; ++i) {
      product +=
          static_cast<Real>(inputs_.q.at(batch_of(given_, b), h, first_row(given_, sequence, true) + query, i)) *
          static_cast<Real>(inputs_.k.at(batch_of(given_, b), kv_head, first_row(given_, sequence, false) + key, i));
    }
    reading_.enter(variant::place_of(given_.problem, b, h, query, key));
    const laws::Outcome<Real> outcome =
        laws::apply<Real>(given_.variant, reading_, {true, product * static_cast<Real>(scale_of(given_))});
    return outcome.kept ? outcome.score : -std::numeric_limits<Real>::infinity();
  }

  std::optional<Real> sink_logit() {
    if (!given_.variant.has_sink()) return std::nullopt;
    return reading_.evaluate(given_.variant.data().sink).real;
  }

  Real dropout_factor(std::int64_t key, std::int64_t query, std::int64_t head) const {
    return dropout_keeps(*given_.dropout, key, query, head) ? static_cast<Real>(given_.dropout->scale()) : 0;
  }

  const Case& given_;
  const CaseInputs& inputs_;
  variant::ScalarReading<Real>& reading_;
  bool rounds_;
};

template <class Real>
Answer standard(const Case& given, const CaseInputs& inputs, bool rounds) {
  const variant::Graph& graph = given.variant.data().graph;
  const variant::Bound bound = variant::bind(graph, given.bindings);
  variant::ScalarReading<Real> reading(graph, bound);
  Row<Real> row(given, inputs, reading, rounds);
  Answer answer;
  for (std::int64_t b = 0; b < given.problem.b(); ++b) {
    for (std::int64_t h = 0; h < given.problem.h_q; ++h) {
      for (std::int64_t query = 0; query < given.problem.sequences[static_cast<std::size_t>(b)].s_q; ++query) {
        reading.enter(variant::place_of(given.problem, b, h, query, 0));
        row.append_to(answer, b, h, query);
      }
    }
  }
  return answer;
}

void expect_lse(const Case& given, const std::vector<double>& got, const Answer& exact, const Answer& standard) {
  ASSERT_EQ(got.size(), exact.lse.size());
  double allowed = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (std::isinf(exact.lse[i])) continue;
    // Scores in float32 with a relative error of a few 2^-24 for each of the d_qk products; the answer is as far off.
    allowed = std::max({allowed, std::abs(exact.lse[i]) * 0x1p-18, 0x1p-10, std::abs(standard.lse[i] - exact.lse[i])});
  }
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (std::isinf(exact.lse[i])) {
      EXPECT_EQ(got[i], exact.lse[i]) << given.name << ", row " << i;
    } else {
      EXPECT_NEAR(got[i], exact.lse[i], allowed) << given.name << ", row " << i;
    }
    if (::testing::Test::HasFailure()) return;
  }
}

}  // namespace

ForwardExtent extent_of(const Case& given) {
  ForwardExtent extent{.b = given.problem.b(), .h_q = given.problem.h_q, .s_q = 0, .h_kv = given.problem.h_kv};
  extent.q_rows = extent.kv_rows = 0;
  for (const Sequence& sequence : given.problem.sequences) {
    extent.s_q = std::max(extent.s_q, sequence.s_q);
    extent.s_kv = std::max(extent.s_kv, sequence.s_kv);
    extent.q_rows = std::max(extent.q_rows, sequence.s_q + (given.is_packed ? sequence.first_query_token : 0));
    extent.kv_rows = std::max(extent.kv_rows, sequence.s_kv + (given.is_packed ? sequence.first_key_token : 0));
  }
  return extent;
}

bool is_hopper(const jit::Context& context) { return context.device().compute_capability_major == 9; }

namespace {

std::unique_ptr<const ForwardRunner> kernel_of(const std::shared_ptr<const jit::Context>& context,
                                               jit::Compiler& compiler, const Case& given, const ForwardShape& shape) {
  if (given.plan) return std::make_unique<ForwardKernel>(compiler, context, given.variant, shape, *given.plan);
  if (given.hopper_plan) {
    return std::make_unique<HopperForwardKernel>(compiler, context, given.variant, shape, *given.hopper_plan);
  }
  if (!given.portable && is_hopper(*context) && hopper_refusal(shape).empty()) {
    return std::make_unique<HopperForwardKernel>(compiler, context, given.variant, shape);
  }
  return std::make_unique<ForwardKernel>(compiler, context, given.variant, shape);
}

}  // namespace

Case case_of(std::string name, const Variant& variant, const Problem& problem, int d_qk, int d_v) {
  Case made;
  made.name = std::move(name);
  made.variant = variant;
  made.problem = problem;
  made.d_qk = d_qk;
  made.d_v = d_v;
  made.with_lists = !variant.data().stages.empty();
  return made;
}

CaseInputs make_inputs(const Case& given) {
  std::mt19937_64 random(given.seed);
  CaseInputs inputs;
  inputs.q = random_tensor(given, given.problem.h_q, given.d_qk, true, false, random);
  inputs.k = random_tensor(given, given.problem.h_kv, given.d_qk, false, true, random);
  inputs.v = random_tensor(given, given.problem.h_kv, given.d_v, false, false, random);
  return inputs;
}

Answer standard_attention(const Case& given, const CaseInputs& inputs, bool in_float64) {
  return in_float64 ? standard<double>(given, inputs, false) : standard<float>(given, inputs, true);
}

Answer kernel_attention(const std::shared_ptr<const jit::Context>& context, jit::Compiler& compiler, const Case& given,
                        const CaseInputs& inputs) {
  ForwardShape shape{.dtype = given.dtype, .d_qk = given.d_qk, .d_v = given.d_v, .has_lists = given.with_lists};
  shape.has_dropout = given.dropout.has_value();
  shape.is_aligned = given.gap % 8 == 0;
  const std::unique_ptr<const ForwardRunner> made = kernel_of(context, compiler, given, shape);
  const ForwardRunner& kernel = *made;
  const BoundVariant bound(context, given.variant, kernel.layout(), given.bindings);

  const DeviceMemory q = DeviceMemory::of(context, bits_of(given.dtype, inputs.q));
  const DeviceMemory k = DeviceMemory::of(context, bits_of(given.dtype, inputs.k));
  const DeviceMemory v = DeviceMemory::of(context, bits_of(given.dtype, inputs.v));
  HostTensor o = storage(given, given.problem.h_q, given.d_v, true);
  HostTensor lse = storage(given, given.problem.h_q, 1, true);
  const DeviceMemory o_memory = DeviceMemory::of(context, bits_of(given.dtype, o));
  const DeviceMemory lse_memory = DeviceMemory::of(context, lse.values);
  const DeviceMemory sequences = DeviceMemory::of(context, sequence_shapes(given.problem));

  ForwardArguments arguments{};
  arguments.q = view_of(q, inputs.q);
  arguments.k = view_of(k, inputs.k);
  arguments.v = view_of(v, inputs.v);
  arguments.o = view_of(o_memory, o);
  arguments.lse = view_of(lse_memory, lse);
  arguments.sequences = sequences.as<const SequenceShape>();
  std::optional<MadeLists> lists;
  if (given.with_lists) {
    lists.emplace(compiler, context, given.variant, given.bindings, bound.bytes(), given.problem, kernel.tile(), false);
    arguments.lists = lists->view();
  }
  if (given.dropout) arguments.dropout = dropout_arguments(*given.dropout);
  arguments.queries_packed = arguments.keys_packed = given.is_packed;
  arguments.heads_per_kv = static_cast<int>(given.problem.h_q / given.problem.h_kv);
  arguments.scale = static_cast<float>(scale_of(given));
  kernel.launch(arguments, bound.bytes(), extent_of(given), nullptr);

  const auto o_bits = copy_back<std::uint16_t>(*context, o_memory, o.values.size());
  for (std::size_t i = 0; i < o_bits.size(); ++i) o.values[i] = value_of(given.dtype, o_bits[i]);
  lse.values = copy_back<float>(*context, lse_memory, lse.values.size());
  return {take(given, o, given.d_v), take(given, lse, 1)};
}

Expectation expectation_of(const Case& given) {
  Expectation made{make_inputs(given), {}, {}};
  made.exact = standard_attention(given, made.inputs, true);
  made.standard = standard_attention(given, made.inputs, false);
  return made;
}

void expect_right(const std::shared_ptr<const jit::Context>& context, jit::Compiler& compiler, const Case& given) {
  expect_right(context, compiler, given, expectation_of(given));
}

void expect_right(const std::shared_ptr<const jit::Context>& context, jit::Compiler& compiler, const Case& given,
                  const Expectation& expected) {
  SCOPED_TRACE(given.name);
  const Answer& exact = expected.exact;
  const Answer& standard = expected.standard;
  const Answer got = kernel_attention(context, compiler, given, expected.inputs);
  ASSERT_EQ(got.o.size(), exact.o.size());
  double largest = 0, squares = 0;
  for (const double value : exact.o) {
    largest = std::max(largest, std::abs(value));
    squares += value * value;
  }
  const double typical = std::sqrt(squares / static_cast<double>(std::max<std::size_t>(exact.o.size(), 1)));
  const double ulp = given.dtype == DType::bfloat16 ? 0x1p-8 : 0x1p-11;  // of 1
  const Errors error = errors_of(got.o, exact.o), allowed = errors_of(standard.o, exact.o);
  EXPECT_LE(error.largest, 2 * allowed.largest + 2 * ulp * largest) << "largest output " << largest;
  EXPECT_LE(error.root_mean_square, 2 * allowed.root_mean_square + 2 * ulp * typical) << "largest output " << largest;
  expect_lse(given, got.lse, exact, standard);
}

}  // namespace tilewise::cuda::testing
