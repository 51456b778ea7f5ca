#include "tests/gpu/gradient_case.h"

#include <array>
#include <map>
#include <tuple>

#include "cuda/launch/backward.h"
#include "cuda/launch/bound_variant.h"
#include "cuda/launch/sequences.h"
#include "tests/gpu/host_tensor.h"
#include "tests/gpu/made_lists.h"
#include "tests/laws/reading.h"
#include "tiles/classify.h"
#include "variant/adjoint.h"
#include "variant/place.h"

namespace tilewise::cuda::testing {
namespace {

/// A variant's score of an entry with its derivative by the product.
template <class Real>
class SlopedReading {
 public:
  SlopedReading(const Variant& variant, const variant::Bound& bound) : variant_(variant), bound_(bound) {
    const variant::Graph& graph = variant.data().graph;
    for (const variant::Stage& stage : variant.data().stages) {
      variant::StageAdjoint adjoint;
      if (stage.kind == variant::Stage::Kind::score) {
        adjoint = variant::adjoint(graph, stage.root);
      } else {
        adjoint.graph = graph;
      }
      adjoints_.push_back(std::move(adjoint));
    }
    for (const variant::StageAdjoint& adjoint : adjoints_) readings_.emplace_back(adjoint.graph, bound_);
  }

  struct Result {
    bool kept = true;
    Real score = 0, slope = 1;
  };
  Result evaluate(const variant::Place& place, Real score) {
    Result result{true, score, 1};
    for (std::size_t i = 0; i < adjoints_.size(); ++i) {
      const variant::Stage& stage = variant_.data().stages[i];
      variant::ScalarReading<Real>& reading = readings_[i];
      reading.enter(place);
      reading.set_score(result.score);
      reading.set_seed(1);
      const auto value = reading.evaluate(stage.root);
      if (stage.kind == variant::Stage::Kind::keep) {
        if (!value.boolean) return {false, 0, 0};
        continue;
      }
      if (value.real == -std::numeric_limits<Real>::infinity()) return {false, 0, 0};
      const bool depends = adjoints_[i].d_score != variant::kNoNode;
      result.slope *= depends ? reading.evaluate(adjoints_[i].d_score).real : 0;
      result.score = value.real;
      if (value.real < Real(-0x1p126)) result = {true, Real(-0x1p126), 0};
    }
    return result;
  }

 private:
  const Variant& variant_;
  const variant::Bound& bound_;
  std::vector<variant::StageAdjoint> adjoints_;         // [stages]
  std::vector<variant::ScalarReading<Real>> readings_;  // [stages]
};

struct BackwardInputs {
  CaseInputs forward;
  HostTensor o, d_o, lse, d_lse;
};

struct Gradients {
  HostTensor q, k, v;
};

/// Calls visit(b, h, query) for every row.
template <class Visit>
void for_each_row(const Case& given, Visit visit) {
  for (std::int64_t b = 0; b < given.problem.b(); ++b) {
    for (std::int64_t h = 0; h < given.problem.h_q; ++h) {
      const std::int64_t s_q = given.problem.sequences[static_cast<std::size_t>(b)].s_q;
      for (std::int64_t query = 0; query < s_q; ++query) visit(b, h, query);
    }
  }
}

BackwardInputs make_backward_inputs(const Case& given) {
  BackwardInputs inputs{make_inputs(given), storage(given, given.problem.h_q, given.d_v, true), {}, {}, {}};
  std::mt19937_64 random(given.seed + 17);
  inputs.d_o = random_tensor(given, given.problem.h_q, given.d_v, true, false, random);
  inputs.lse = inputs.d_lse = storage(given, given.problem.h_q, 1, true);
  const Answer exact = standard_attention(given, inputs.forward, true);
  std::normal_distribution<float> normal;
  std::size_t number = 0;
  for_each_row(given, [&](std::int64_t b, std::int64_t h, std::int64_t query) {
    const Sequence& sequence = given.problem.sequences[static_cast<std::size_t>(b)];
    const std::int64_t row = first_row(given, sequence, true) + query, at = batch_of(given, b);
    for (std::int64_t i = 0; i < given.d_v; ++i) {
      inputs.o.at(at, h, row, i) =
          rounded(given.dtype, exact.o[number * static_cast<std::size_t>(given.d_v) + static_cast<std::size_t>(i)]);
    }
    inputs.lse.at(at, h, row, 0) = static_cast<float>(exact.lse[number]);
    inputs.d_lse.at(at, h, row, 0) = normal(random);
    ++number;
  });
  return inputs;
}

/// Gradients with sums in Real; where `rounds`, weights and score gradients are rounded to the dtype before products.
template <class Real>
class Standard {
 public:
  Standard(const Case& given, const BackwardInputs& inputs, bool rounds)
      : given_(given),
        inputs_(inputs),
        rounds_(rounds),
        bound_(variant::bind(given.variant.data().graph, given.bindings)),
        reading_(given.variant, bound_) {}

  /// d_q, d_k and d_v in the order (b, h, s, d).
  std::array<std::vector<double>, 3> gradients() {
    for_each_row(given_, [&](std::int64_t b, std::int64_t h, std::int64_t query) { add_row(b, h, query); });
    return {flattened(d_q_, true, given_.problem.h_q, given_.d_qk),
            flattened(d_k_, false, given_.problem.h_kv, given_.d_qk),
            flattened(d_v_, false, given_.problem.h_kv, given_.d_v)};
  }

 private:
  using Key = std::tuple<std::int64_t, std::int64_t, std::int64_t>;  // b, h, row
  using Sums = std::map<Key, std::vector<Real>>;

  Real round(Real value) const {
    return rounds_ ? static_cast<Real>(rounded(given_.dtype, static_cast<double>(value))) : value;
  }

  std::vector<double> flattened(Sums& sums, bool of_queries, std::int64_t heads, int d) {
    std::vector<double> values;
    for (std::int64_t b = 0; b < given_.problem.b(); ++b) {
      const Sequence& sequence = given_.problem.sequences[static_cast<std::size_t>(b)];
      for (std::int64_t h = 0; h < heads; ++h) {
        for (std::int64_t s = 0; s < (of_queries ? sequence.s_q : sequence.s_kv); ++s) {
          std::vector<Real>& row = sums[{b, h, s}];
          row.resize(static_cast<std::size_t>(d));
          for (const Real value : row) values.push_back(static_cast<double>(round(value)));
        }
      }
    }
    return values;
  }

  void add_row(std::int64_t b, std::int64_t h, std::int64_t query) {
    const Sequence& sequence = given_.problem.sequences[static_cast<std::size_t>(b)];
    const std::int64_t kv_head = h / (given_.problem.h_q / given_.problem.h_kv), at = batch_of(given_, b);
    const std::int64_t row = first_row(given_, sequence, true) + query, keys = first_row(given_, sequence, false);
    const CaseInputs& in = inputs_.forward;
    const auto scale = static_cast<Real>(scale_of(given_));
    const auto lse = static_cast<Real>(inputs_.lse.at(at, h, row, 0));
    Real delta = -static_cast<Real>(inputs_.d_lse.at(at, h, row, 0));
    for (std::int64_t i = 0; i < given_.d_v; ++i) {
      delta += static_cast<Real>(inputs_.o.at(at, h, row, i)) * static_cast<Real>(inputs_.d_o.at(at, h, row, i));
    }
    std::vector<Real>& d_q = d_q_[{b, h, query}];
    d_q.resize(static_cast<std::size_t>(given_.d_qk));
    for (std::int64_t key = sequence.key_start; key < sequence.s_kv; ++key) {
      Real product = 0, d_weight = 0;
      for (std::int64_t i = 0; i < given_.d_qk; ++i) {
        product += static_cast<Real>(in.q.at(at, h, row, i)) * static_cast<Real>(in.k.at(at, kv_head, keys + key, i));
      }
      const auto scored = reading_.evaluate(variant::place_of(given_.problem, b, h, query, key), product * scale);
      if (!scored.kept) continue;
      const Real weight = std::exp(scored.score - lse);
      if (weight == 0) continue;
      Real factor = 1;
      if (given_.dropout) {
        factor = dropout_keeps(*given_.dropout, key, query, b * given_.problem.h_q + h)
                     ? static_cast<Real>(given_.dropout->scale())
                     : 0;
      }
      std::vector<Real>& d_k = d_k_[{b, kv_head, key}];
      std::vector<Real>& d_v = d_v_[{b, kv_head, key}];
      d_k.resize(static_cast<std::size_t>(given_.d_qk));
      d_v.resize(static_cast<std::size_t>(given_.d_v));
      for (std::int64_t i = 0; i < given_.d_v; ++i) {
        const auto d_o = static_cast<Real>(inputs_.d_o.at(at, h, row, i));
        d_weight += d_o * static_cast<Real>(in.v.at(at, kv_head, keys + key, i)) * factor;
        d_v[static_cast<std::size_t>(i)] += round(weight * factor) * d_o;
      }
      const Real d_score = round(weight * (d_weight - delta) * scored.slope);
      for (std::int64_t i = 0; i < given_.d_qk; ++i) {
        d_q[static_cast<std::size_t>(i)] += d_score * scale * static_cast<Real>(in.k.at(at, kv_head, keys + key, i));
        d_k[static_cast<std::size_t>(i)] += d_score * scale * static_cast<Real>(in.q.at(at, h, row, i));
      }
    }
  }

  const Case& given_;
  const BackwardInputs& inputs_;
  bool rounds_;
  variant::Bound bound_;
  SlopedReading<Real> reading_;
  Sums d_q_, d_k_, d_v_;
};

/// The elements of a result in the order (b, h, s, d).
std::vector<double> take_rows(const Case& given, HostTensor& tensor, bool of_queries, std::int64_t heads, int d) {
  std::vector<double> values;
  for (std::int64_t b = 0; b < given.problem.b(); ++b) {
    const Sequence& sequence = given.problem.sequences[static_cast<std::size_t>(b)];
    for (std::int64_t h = 0; h < heads; ++h) {
      for (std::int64_t s = 0; s < (of_queries ? sequence.s_q : sequence.s_kv); ++s) {
        for (std::int64_t i = 0; i < d; ++i) {
          float& value = tensor.at(batch_of(given, b), h, first_row(given, sequence, of_queries) + s, i);
          values.push_back(value);
          value = kNaN;
        }
      }
    }
  }
  EXPECT_TRUE(std::all_of(tensor.values.begin(), tensor.values.end(), [](float value) { return std::isnan(value); }))
      << "something was written outside of the gradient";
  return values;
}

std::unique_ptr<const BackwardRunner> kernels_of(const std::shared_ptr<const jit::Context>& context,
                                                 jit::Compiler& compiler, const Case& given,
                                                 const ForwardShape& shape) {
  if (given.hopper_backward_plan) {
    return std::make_unique<HopperBackwardKernels>(compiler, context, given.variant, shape,
                                                   *given.hopper_backward_plan);
  }
  if (given.backward_plan) {
    return std::make_unique<BackwardKernels>(compiler, context, given.variant, shape, *given.backward_plan);
  }
  if (!given.portable && is_hopper(*context) && hopper_backward_refusal(shape).empty()) {
    return std::make_unique<HopperBackwardKernels>(compiler, context, given.variant, shape);
  }
  return std::make_unique<BackwardKernels>(compiler, context, given.variant, shape);
}

/// The kernels' gradients.
std::array<std::vector<double>, 3> kernel_gradients(const std::shared_ptr<const jit::Context>& context,
                                                    jit::Compiler& compiler, const Case& given,
                                                    const BackwardInputs& inputs) {
  ForwardShape shape;
  shape.dtype = given.dtype;
  shape.d_qk = given.d_qk;
  shape.d_v = given.d_v;
  shape.has_lists = given.with_lists;
  shape.has_dropout = given.dropout.has_value();
  shape.is_aligned = given.gap % 8 == 0;
  shape.is_deterministic = given.d_q_parts > 0;
  const std::unique_ptr<const BackwardRunner> made = kernels_of(context, compiler, given, shape);
  const BackwardRunner& kernels = *made;
  const BoundVariant bound(context, given.variant, kernels.layout(), given.bindings);
  const std::int64_t h_q = given.problem.h_q, h_kv = given.problem.h_kv, b = given.problem.b();

  std::vector<DeviceMemory> kept;
  const auto upload = [&](const HostTensor& tensor) {
    kept.push_back(DeviceMemory::of(context, bits_of(given.dtype, tensor)));
    return view_of(kept.back(), tensor);
  };
  const auto upload_floats = [&](const HostTensor& tensor) {
    kept.push_back(DeviceMemory::of(context, tensor.values));
    return view_of(kept.back(), tensor);
  };
  HostTensor d_q = storage(given, h_q, given.d_qk, true), d_k = storage(given, h_kv, given.d_qk, false),
             d_v = storage(given, h_kv, given.d_v, false);
  BackwardArguments arguments{};
  arguments.q = upload(inputs.forward.q);
  arguments.k = upload(inputs.forward.k);
  arguments.v = upload(inputs.forward.v);
  arguments.o = upload(inputs.o);
  arguments.d_o = upload(inputs.d_o);
  arguments.lse = upload_floats(inputs.lse);
  arguments.d_lse = upload_floats(inputs.d_lse);
  arguments.d_q = upload(d_q);
  arguments.d_k = upload(d_k);
  arguments.d_v = upload(d_v);
  std::int64_t s_q = 0;
  for (const Sequence& sequence : given.problem.sequences) {
    s_q = std::max(s_q, sequence.s_q);
  }
  const auto floats = [&](std::int64_t count) {
    kept.push_back(DeviceMemory::of(context, std::vector<float>(static_cast<std::size_t>(count), kNaN)));
    return kept.back().as<float>();
  };
  arguments.reference = floats(BackwardRunner::row_floats(b, h_q, s_q));
  arguments.delta = floats(BackwardRunner::row_floats(b, h_q, s_q));
  arguments.d_q_sums = floats(std::max(given.d_q_parts, 1) * BackwardRunner::d_q_floats(b, h_q, s_q, given.d_qk));
  arguments.d_q_parts = given.d_q_parts;
  kept.emplace_back(context, static_cast<std::size_t>(BackwardRunner::turn_ints(b, h_q, s_q)) * sizeof(int));
  arguments.d_q_turns = kept.back().as<int>();
  kept.push_back(DeviceMemory::of(context, sequence_shapes(given.problem)));
  arguments.sequences = kept.back().as<const SequenceShape>();
  std::optional<MadeLists> lists;
  if (given.with_lists) {
    lists.emplace(compiler, context, given.variant, given.bindings, bound.bytes(), given.problem, kernels.tile(), true);
    arguments.lists = lists->view();
  }
  if (given.dropout) arguments.dropout = dropout_arguments(*given.dropout);
  arguments.queries_packed = arguments.keys_packed = given.is_packed;
  arguments.heads_per_kv = static_cast<int>(h_q / h_kv);
  arguments.h_q = static_cast<int>(h_q);
  arguments.s_q = static_cast<int>(s_q);
  arguments.scale = static_cast<float>(scale_of(given));
  jit::KernelChain chain;
  kernels.launch(arguments, bound.bytes(), extent_of(given), chain, nullptr);

  const auto download = [&](const TensorView& view, HostTensor& tensor, bool of_queries, std::int64_t heads, int d) {
    const jit::CurrentContext current(*context);
    const jit::Driver& driver = context->driver();
    driver.check(driver.api().stream_synchronize(nullptr), "to run a kernel");
    std::vector<std::uint16_t> bits(tensor.values.size());
    driver.check(driver.api().copy_to_host(bits.data(), reinterpret_cast<jit::DevicePointer>(view.data),
                                           bits.size() * sizeof(bits[0])),
                 "to copy from the GPU");
    for (std::size_t i = 0; i < bits.size(); ++i) tensor.values[i] = value_of(given.dtype, bits[i]);
    return take_rows(given, tensor, of_queries, heads, d);
  };
  return {download(arguments.d_q, d_q, true, h_q, given.d_qk), download(arguments.d_k, d_k, false, h_kv, given.d_qk),
          download(arguments.d_v, d_v, false, h_kv, given.d_v)};
}

}  // namespace

void expect_right_gradients(const std::shared_ptr<const jit::Context>& context, jit::Compiler& compiler,
                            const Case& given) {
  SCOPED_TRACE(given.name);
  const BackwardInputs inputs = make_backward_inputs(given);
  const auto exact = Standard<double>(given, inputs, false).gradients();
  const auto standard = Standard<float>(given, inputs, true).gradients();
  const auto got = kernel_gradients(context, compiler, given, inputs);
  constexpr const char* kNames[] = {"d_q", "d_k", "d_v"};
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i].size(), exact[i].size()) << kNames[i];
    double largest = 0, squares = 0;
    for (const double value : exact[i]) {
      largest = std::max(largest, std::abs(value));
      squares += value * value;
    }
    const double typical = std::sqrt(squares / static_cast<double>(std::max<std::size_t>(exact[i].size(), 1)));
    const double ulp = given.dtype == DType::bfloat16 ? 0x1p-8 : 0x1p-11;  // of 1
    const Errors error = errors_of(got[i], exact[i]), allowed = errors_of(standard[i], exact[i]);
    EXPECT_LE(error.largest, 3 * allowed.largest + 2 * ulp * largest) << kNames[i] << ", largest " << largest;
    EXPECT_LE(error.root_mean_square, 3 * allowed.root_mean_square + 2 * ulp * typical)
        << kNames[i] << ", largest " << largest;
  }
}

}  // namespace tilewise::cuda::testing
