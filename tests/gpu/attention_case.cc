#include "tests/gpu/attention_case.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "core/half.h"
#include "cuda/launch/bound_variant.h"
#include "tests/gpu/with_gpu.h"
#include "tests/laws/reading.h"
#include "tiles/classify.h"
#include "variant/place.h"

namespace tilewise::cuda::testing {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

std::uint16_t bits_of(DType dtype, float value) {
  return dtype == DType::bfloat16 ? Bfloat16(value).bits : Float16(value).bits;
}
float value_of(DType dtype, std::uint16_t bits) {
  return dtype == DType::bfloat16 ? static_cast<float>(Bfloat16::from_bits(bits))
                                  : static_cast<float>(Float16::from_bits(bits));
}
float rounded(DType dtype, double value) {
  return std::isnan(value) ? kNaN : value_of(dtype, bits_of(dtype, static_cast<float>(value)));
}

double scale_of(const Case& given) { return given.scale != 0 ? given.scale : 1 / std::sqrt(given.d_qk); }

/// Storage of a tensor, all NaN.
HostTensor storage(const Case& given, std::int64_t heads, std::int64_t d, bool of_queries) {
  std::int64_t rows = 0, longest = 0;
  for (const Sequence& sequence : given.problem.sequences) {
    const std::int64_t length = of_queries ? sequence.s_q : sequence.s_kv;
    const std::int64_t first = of_queries ? sequence.first_query_token : sequence.first_key_token;
    rows = std::max(rows, first + length);
    longest = std::max(longest, length);
  }
  HostTensor tensor;
  tensor.head = d + given.gap;
  tensor.row = heads * tensor.head;
  if (given.is_packed) {
    tensor.values.assign(static_cast<std::size_t>((rows + 1) * tensor.row), kNaN);
  } else {
    tensor.batch = longest * tensor.row;
    tensor.values.assign(static_cast<std::size_t>(given.problem.b() * tensor.batch + tensor.row), kNaN);
  }
  return tensor;
}

/// Row of a sequence's index 0.
std::int64_t first_row(const Case& given, const Sequence& sequence, bool of_queries) {
  if (!given.is_packed) return 0;
  return of_queries ? sequence.first_query_token : sequence.first_key_token;
}
std::int64_t batch_of(const Case& given, std::int64_t sequence) { return given.is_packed ? 0 : sequence; }

HostTensor random_tensor(const Case& given, std::int64_t heads, std::int64_t d, bool of_queries, bool is_key,
                         std::mt19937_64& random) {
  HostTensor tensor = storage(given, heads, d, of_queries);
  std::normal_distribution<double> normal;
  std::uniform_int_distribution<int> one_in_hundred(0, 99);
  for (std::int64_t b = 0; b < given.problem.b(); ++b) {
    const Sequence& sequence = given.problem.sequences[static_cast<std::size_t>(b)];
    const std::int64_t length = of_queries ? sequence.s_q : sequence.s_kv;
    // Keys before key_start stay NaN: no kernel may read them.
    for (std::int64_t s = of_queries ? 0 : sequence.key_start; s < length; ++s) {
      for (std::int64_t h = 0; h < heads; ++h) {
        for (std::int64_t i = 0; i < d; ++i) {
          double value = normal(random);
          if (given.inputs == Inputs::outliers && one_in_hundred(random) == 0) value *= 20;
          if (given.inputs == Inputs::large && is_key) value *= 1 + static_cast<double>(s) / 4;
          tensor.at(batch_of(given, b), h, first_row(given, sequence, of_queries) + s, i) = rounded(given.dtype, value);
        }
      }
    }
  }
  return tensor;
}

std::vector<std::uint16_t> bits_of(DType dtype, const HostTensor& tensor) {
  std::vector<std::uint16_t> bits;
  const std::uint16_t nan = dtype == DType::bfloat16 ? 0x7fc0 : 0x7e00;
  for (const float value : tensor.values) bits.push_back(std::isnan(value) ? nan : bits_of(dtype, value));
  return bits;
}

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

TensorView view_of(const DeviceMemory& memory, const HostTensor& tensor) {
  return {memory.as<void>(), tensor.batch, tensor.head, tensor.row};
}

/// Copies back what was written to `memory` into a tensor of its layout.
template <class T>
std::vector<T> copy_back(const jit::Context& context, const DeviceMemory& memory, std::size_t size) {
  const jit::CurrentContext current(context);
  const jit::Driver& driver = context.driver();
  driver.check(driver.api().stream_synchronize(nullptr), "to run a kernel");
  std::vector<T> values(size);
  driver.check(driver.api().copy_to_host(values.data(), memory.pointer(), size * sizeof(T)), "to copy from the GPU");
  return values;
}

/// Takes a sequence's outputs out of a tensor; what is left must all be NaN.
std::vector<double> take(const Case& given, HostTensor& tensor, std::int64_t d) {
  std::vector<double> values;
  for (std::int64_t b = 0; b < given.problem.b(); ++b) {
    const Sequence& sequence = given.problem.sequences[static_cast<std::size_t>(b)];
    for (std::int64_t h = 0; h < given.problem.h_q; ++h) {
      for (std::int64_t query = 0; query < sequence.s_q; ++query) {
        for (std::int64_t i = 0; i < d; ++i) {
          float& value = tensor.at(batch_of(given, b), h, first_row(given, sequence, true) + query, i);
          values.push_back(value);
          value = kNaN;
        }
      }
    }
  }
  EXPECT_TRUE(std::all_of(tensor.values.begin(), tensor.values.end(), [](float value) { return std::isnan(value); }))
      << "something was written outside of the output";
  return values;
}

struct Errors {
  double largest = 0, root_mean_square = 0;
};
Errors errors_of(const std::vector<double>& got, const std::vector<double>& expected) {
  Errors errors;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double error = std::abs(got[i] - expected[i]);
    errors.largest = error <= errors.largest ? errors.largest : error;  // a NaN stays
    errors.root_mean_square += error * error;
  }
  errors.root_mean_square = got.empty() ? 0 : std::sqrt(errors.root_mean_square / static_cast<double>(got.size()));
  return errors;
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
  const ForwardKernel kernel = given.plan ? ForwardKernel(compiler, context, given.variant, shape, *given.plan)
                                          : ForwardKernel(compiler, context, given.variant, shape);
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
  std::optional<DeviceTileLists> lists;
  if (given.with_lists) {
    tiles::Classifier classifier(given.variant, given.bindings, given.problem);
    lists.emplace(context,
                  make_tile_lists(classifier, given.problem, {kernel.plan().query_tile(), kernel.plan().key_tile}));
    arguments.lists = lists->view();
  }
  if (given.dropout) {
    arguments.dropout = {given.dropout->seed, given.dropout->offset, given.dropout->keep_below,
                         static_cast<float>(given.dropout->scale()), 0};
  }
  arguments.is_packed = given.is_packed;
  arguments.heads_per_kv = static_cast<int>(given.problem.h_q / given.problem.h_kv);
  arguments.scale = static_cast<float>(scale_of(given));
  ForwardExtent extent{.b = given.problem.b(), .h_q = given.problem.h_q};
  for (const Sequence& sequence : given.problem.sequences) extent.s_q = std::max(extent.s_q, sequence.s_q);
  kernel.launch(arguments, bound.bytes(), extent, nullptr);

  const auto o_bits = copy_back<std::uint16_t>(*context, o_memory, o.values.size());
  for (std::size_t i = 0; i < o_bits.size(); ++i) o.values[i] = value_of(given.dtype, o_bits[i]);
  lse.values = copy_back<float>(*context, lse_memory, lse.values.size());
  return {take(given, o, given.d_v), take(given, lse, 1)};
}

void expect_right(const std::shared_ptr<const jit::Context>& context, jit::Compiler& compiler, const Case& given) {
  SCOPED_TRACE(given.name);
  const CaseInputs inputs = make_inputs(given);
  const Answer exact = standard_attention(given, inputs, true);
  const Answer standard = standard_attention(given, inputs, false);
  const Answer got = kernel_attention(context, compiler, given, inputs);
  ASSERT_EQ(got.o.size(), exact.o.size());
  double largest = 0;
  for (const double value : exact.o) largest = std::max(largest, std::abs(value));
  const double ulp = largest * (given.dtype == DType::bfloat16 ? 0x1p-8 : 0x1p-11);
  const Errors error = errors_of(got.o, exact.o), allowed = errors_of(standard.o, exact.o);
  EXPECT_LE(error.largest, 2 * allowed.largest + 2 * ulp) << "largest output " << largest;
  EXPECT_LE(error.root_mean_square, 2 * allowed.root_mean_square + 2 * ulp) << "largest output " << largest;
  expect_lse(given, got.lse, exact, standard);
}

}  // namespace tilewise::cuda::testing
