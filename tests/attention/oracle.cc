#include "tests/attention/oracle.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "tilewise/reference.h"
#include "tilewise/tiles.h"

namespace tilewise::attention::testing {

using reference::Array;
using reference::AttentionData;

void run(const Plan& plan, AttentionData& data, const VariantOutputs* gradients) {
  plan.forward(data.inputs, data.outputs());
  if (!plan.shape().backward) return;
  BackwardOutputs outputs = data.gradients();
  if (gradients != nullptr) gradients->add_to(outputs);
  plan.backward(data.inputs, data.given_with_outputs(), outputs);
}

Problem problem_of(const reference::Shape& shape) {
  return {.h_q = shape.h_q, .h_kv = shape.h_kv, .sequences = shape.sequences};
}

std::vector<Sequence> uneven_sequences() {
  return {
      {.s_q = 50, .s_kv = 131, .first_query_token = 3, .first_key_token = 200},
      {.s_q = 0, .s_kv = 20, .first_query_token = 53, .first_key_token = 7},
      {.s_q = 5, .s_kv = 60, .key_start = 11, .first_query_token = 60, .first_key_token = 40},
      {.s_q = 129,
       .s_kv = 100,
       .query_offset = 10,
       .key_offset = -7,
       .key_start = 33,
       .first_query_token = 70,
       .first_key_token = 100},
      {.s_q = 31, .s_kv = 0, .first_query_token = 210},
      {.s_q = 2, .s_kv = 9, .key_start = 9, .first_query_token = 250, .first_key_token = 400},
  };
}

reference::Shape uniform(std::int64_t b, std::int64_t h_q, std::int64_t h_kv, std::int64_t s_q, std::int64_t s_kv,
                         std::int64_t d_qk, std::int64_t d_v) {
  return {.h_q = h_q,
          .h_kv = h_kv,
          .d_qk = d_qk,
          .d_v = d_v,
          .sequences = std::vector<Sequence>(static_cast<std::size_t>(b), Sequence{.s_q = s_q, .s_kv = s_kv})};
}

PlanShape plan_shape(const reference::Shape& shape, DType dtype, bool backward, const Bound& bound) {
  PlanShape plan{.dtype = dtype,
                 .b = static_cast<std::int64_t>(shape.sequences.size()),
                 .h_q = shape.h_q,
                 .h_kv = shape.h_kv,
                 .d_qk = shape.d_qk,
                 .d_v = shape.d_v,
                 .backward = backward,
                 .tables = bound.shapes};
  std::int64_t query_tokens = 0, key_tokens = 0;
  for (const Sequence& sequence : shape.sequences) {
    plan.s_q = std::max(plan.s_q, sequence.s_q);
    plan.s_kv = std::max(plan.s_kv, sequence.s_kv);
    query_tokens = std::max(query_tokens, sequence.first_query_token + sequence.s_q);
    key_tokens = std::max(key_tokens, sequence.first_key_token + sequence.s_kv);
  }
  plan.query_tokens = query_tokens;
  plan.key_tokens = key_tokens;
  if (!shape.sequences.empty()) plan.query_offset = shape.sequences.front().query_offset;
  return plan;
}

Bound bind_random(const Variant& variant, const Problem& problem, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  Bound bound;
  // Tables fit the call, and the plan's own proof, which assumes the longest lengths, aligned ends, and packed storage
  // with one sequence at its beginning and others at its end.
  Problem planned = problem;
  std::int64_t s_q = 0, s_kv = 0, query_tokens = 0, key_tokens = 0;
  for (const Sequence& sequence : problem.sequences) {
    s_q = std::max(s_q, sequence.s_q), s_kv = std::max(s_kv, sequence.s_kv);
    query_tokens = std::max(query_tokens, sequence.first_query_token + sequence.s_q);
    key_tokens = std::max(key_tokens, sequence.first_key_token + sequence.s_kv);
  }
  for (std::size_t i = 0; i < planned.sequences.size(); ++i) {
    planned.sequences[i] = {.s_q = s_q,
                            .s_kv = s_kv,
                            .query_offset = problem.sequences.front().query_offset,
                            .first_query_token = i == 0 ? 0 : query_tokens - s_q,
                            .first_key_token = i == 0 ? 0 : key_tokens - s_kv};
  }
  const auto of_call = fitting_extents(variant, problem), of_plan = fitting_extents(variant, planned);
  for (std::size_t i = 0; i < variant.tables().size(); ++i) {
    const Table& table = variant.tables()[i];
    if (table.frozen_data()) continue;
    std::vector<std::int64_t> extents = of_call[i];
    for (std::size_t axis = 0; axis < extents.size(); ++axis) extents[axis] = std::max(extents[axis], of_plan[i][axis]);
    bound.shapes.push_back({table, extents});
    const Tensor sizes(nullptr, table.dtype(), extents);
    auto memory = std::make_shared<std::vector<std::byte>>(
        static_cast<std::size_t>(std::max<std::int64_t>(1, sizes.elements()) * size_of(table.dtype())));
    for (std::int64_t at = 0; at < sizes.elements(); ++at) {
      std::byte* element = memory->data() + at * size_of(table.dtype());
      if (table.type() == Type::real) {
        store_real(element, table.dtype(),
                   std::clamp(std::normal_distribution<double>()(random), table.low(), table.high()));
      } else {
        const double low = std::max(table.low(), 0.0), high = std::min(table.high(), low + 7);
        store_int(element, table.dtype(),
                  std::uniform_int_distribution<std::int64_t>(static_cast<std::int64_t>(low),
                                                              static_cast<std::int64_t>(high))(random));
      }
    }
    bound.tables.push_back({table, ConstTensor(memory->data(), table.dtype(), extents)});
    bound.memory.push_back(std::move(memory));
  }
  for (const Parameter& parameter : variant.parameters()) {
    const double low = std::max(parameter.low(), 0.5), high = std::min(parameter.high(), low + 1);
    bound.parameters.push_back({parameter, parameter.type() == Type::int32 ? std::floor(high) : (low + high) / 2});
  }
  return bound;
}

VariantOutputs::VariantOutputs(const Bound& bound) {
  values.reserve(bound.tables.size() + bound.parameters.size());
  for (const auto& [table, data] : bound.tables) {
    if (table.type() != Type::real) continue;
    auto& memory = values.emplace_back(static_cast<std::size_t>(data.elements()), std::nan(""));
    tables.push_back({table, Tensor(memory.data(), DType::float64,
                                    std::span(data.extents.data(), static_cast<std::size_t>(data.rank)))});
  }
  for (const auto& [parameter, value] : bound.parameters) {
    if (parameter.type() != Type::real) continue;
    auto& memory = values.emplace_back(1, std::nan(""));
    parameters.push_back({parameter, Tensor(memory.data(), DType::float64, {})});
  }
}

void Errors::add(double exact, double found, double usual) {
  // Equal infinities differ by nothing; a NaN where none is expected differs by infinity.
  const auto gap = [exact](double value) {
    if (exact == value || (std::isnan(exact) && std::isnan(value))) return 0.0;
    const double difference = std::fabs(exact - value);
    return std::isnan(difference) ? std::numeric_limits<double>::infinity() : difference;
  };
  largest = std::max(largest, gap(found));
  square += gap(found) * gap(found);
  usual_largest = std::max(usual_largest, gap(usual));
  usual_square += gap(usual) * gap(usual);
  if (std::isfinite(exact)) magnitude = std::max(magnitude, std::fabs(exact));
  ++count;
}

void Errors::add(const Errors& others) {
  largest = std::max(largest, others.largest);
  usual_largest = std::max(usual_largest, others.usual_largest);
  magnitude = std::max(magnitude, others.magnitude);
  square += others.square;
  usual_square += others.usual_square;
  count += others.count;
}

namespace {

/// A workspace full of NaN with more of them behind it.
class GarbageWorkspace {
 public:
  explicit GarbageWorkspace(std::int64_t bytes)
      : memory_(static_cast<std::size_t>(bytes + 128), std::byte{0xff}),
        end_(static_cast<std::size_t>(bytes) + 64 - reinterpret_cast<std::uintptr_t>(memory_.data()) % 64),
        workspace_(std::span(memory_.data() + end_ - bytes, static_cast<std::size_t>(bytes))) {}

  Workspace& workspace() { return workspace_; }
  void expect_untouched_behind() const {
    for (std::size_t i = end_; i < memory_.size(); ++i)
      ASSERT_EQ(memory_[i], std::byte{0xff}) << "written behind the workspace";
  }

 private:
  std::vector<std::byte> memory_;
  std::size_t end_;
  Workspace workspace_;
};

}  // namespace

void Caller::forward(const Plan& plan, const ForwardInputs& inputs, const ForwardOutputs& outputs) {
  GarbageWorkspace garbage(plan.workspace_bytes());
  plan.forward(inputs, outputs, garbage.workspace());
  garbage.expect_untouched_behind();
}

void Caller::backward(const Plan& plan, const ForwardInputs& inputs, const BackwardInputs& given,
                      const BackwardOutputs& outputs) {
  GarbageWorkspace garbage(plan.workspace_bytes());
  plan.backward(inputs, given, outputs, garbage.workspace());
  garbage.expect_untouched_behind();
}

namespace {

constexpr double kPoison = 768;  // which every dtype holds

void poison(AttentionData& data) {
  for (Array* array : {&data.o, &data.lse, &data.d_q, &data.d_k, &data.d_v}) array->fill(kPoison);
}

/// Elements that no sequence has are as they were.
void expect_untouched(const char* name, const Array& array, std::int64_t written) {
  std::int64_t touched = 0;
  for (std::int64_t i = 0; i < array.size(); ++i) touched += array.get(i) != kPoison;
  EXPECT_LE(touched, written) << name << ": memory outside of every sequence was written";
}

}  // namespace

void Oracle::run(const Variant& variant, const reference::Shape& shape, const Bound& bound, std::uint64_t seed,
                 std::optional<double> scale) {
  AttentionData data(shape, seed, dtype_, DType::float32);
  for (Array* array : {&data.q, &data.k}) {
    for (std::int64_t i = 0; i < array->size(); ++i) array->set(i, deviation * array->get(i));
  }
  data.inputs.tables = bound.tables;
  data.inputs.parameters = bound.parameters;
  data.inputs.scale = scale;
  data.inputs.dropout_probability = dropout;
  data.inputs.seed = seed * 0x9e3779b97f4a7c15u;
  data.inputs.seed_offset = seed % 5;
  poison(data);
  AttentionData usual = data, exact(shape, seed, DType::float64, DType::float64);
  usual.inputs = exact.inputs = data.inputs;  // the very same memory

  PlanShape planned = plan_shape(shape, dtype_, backward_, bound);
  planned.deterministic = deterministic;
  const Plan plan = Attention(variant).plan(planned, caller_.device());
  std::vector<float> max_scores_of[3];  // [h_q] each: found, usual, exact
  const auto outputs_of = [&](AttentionData& to, std::vector<float>& max_score) {
    ForwardOutputs outputs = to.outputs();
    max_score.assign(static_cast<std::size_t>(shape.h_q), std::nanf(""));
    if (max_scores) outputs.max_score = Tensor(max_score.data(), DType::float32, {shape.h_q});
    return outputs;
  };
  caller_.forward(plan, data.inputs, outputs_of(data, max_scores_of[0]));
  standard_attention(variant, usual.inputs, outputs_of(usual, max_scores_of[1]), dtype_);
  standard_attention(variant, exact.inputs, outputs_of(exact, max_scores_of[2]));
  for (std::size_t h = 0; max_scores && h < static_cast<std::size_t>(shape.h_q); ++h)
    errors_[kMaxScore].add(max_scores_of[2][h], max_scores_of[0][h], max_scores_of[1][h]);
  std::int64_t queries = 0, keys = 0;
  data.for_each_query([&](std::int64_t i, const Sequence&, std::int64_t head, std::int64_t row) {
    ++queries;
    const auto compare = [&](Quantity quantity, Array AttentionData::*array, std::int64_t column) {
      errors_[quantity].add(exact.at_query(exact.*array, i, head, row, column),
                            data.at_query(data.*array, i, head, row, column),
                            usual.at_query(usual.*array, i, head, row, column));
    };
    for (std::int64_t c = 0; c < shape.d_v; ++c) compare(kO, &AttentionData::o, c);
    compare(kLse, &AttentionData::lse, 0);
  });
  expect_untouched("o", data.o, queries * shape.d_v);
  expect_untouched("lse", data.lse, queries);
  if (!backward_) return;

  VariantOutputs found(bound), of_usual(bound), of_exact(bound);
  const auto run_backward = [](AttentionData& to, VariantOutputs& more, const auto& call) {
    BackwardOutputs outputs = to.gradients();
    more.add_to(outputs);
    call(outputs);
  };
  const BackwardInputs given = data.given();
  run_backward(usual, of_usual, [&](const BackwardOutputs& outputs) {
    standard_attention_backward(variant, usual.inputs, given, outputs, dtype_);
  });
  run_backward(exact, of_exact, [&](const BackwardOutputs& outputs) {
    standard_attention_backward(variant, exact.inputs, given, outputs);
  });
  run_backward(data, found, [&](const BackwardOutputs& outputs) {
    caller_.backward(plan, data.inputs, data.given_with_outputs(), outputs);
  });
  data.for_each_query([&](std::int64_t i, const Sequence&, std::int64_t head, std::int64_t row) {
    for (std::int64_t c = 0; c < shape.d_qk; ++c) {
      errors_[kDQ].add(exact.at_query(exact.d_q, i, head, row, c), data.at_query(data.d_q, i, head, row, c),
                       usual.at_query(usual.d_q, i, head, row, c));
    }
  });
  data.for_each_key([&](std::int64_t i, const Sequence&, std::int64_t head, std::int64_t row) {
    ++keys;
    for (std::int64_t c = 0; c < shape.d_qk; ++c) {
      errors_[kDK].add(exact.at_key(exact.d_k, i, head, row, c), data.at_key(data.d_k, i, head, row, c),
                       usual.at_key(usual.d_k, i, head, row, c));
    }
    for (std::int64_t c = 0; c < shape.d_v; ++c) {
      errors_[kDV].add(exact.at_key(exact.d_v, i, head, row, c), data.at_key(data.d_v, i, head, row, c),
                       usual.at_key(usual.d_v, i, head, row, c));
    }
  });
  expect_untouched("d_q", data.d_q, queries * shape.d_qk);
  expect_untouched("d_k", data.d_k, keys * shape.d_qk);
  expect_untouched("d_v", data.d_v, keys * shape.d_v);
  for (std::size_t i = 0; i < found.values.size(); ++i) {
    for (std::size_t j = 0; j < found.values[i].size(); ++j)
      errors_[kDTable].add(of_exact.values[i][j], found.values[i][j], of_usual.values[i][j]);
  }
}

std::string Oracle::verdict() const {
  constexpr const char* kNames[] = {"o", "lse", "max_score", "d_q", "d_k", "d_v", "gradients of tables and parameters"};
  std::string text;
  for (int i = 0; i < kQuantities; ++i) {
    const Errors& errors = errors_[i];
    if (errors.count == 0) continue;
    const bool is_float = i == kLse || i == kMaxScore || i == kDTable || dtype_ == DType::float32;
    const double epsilon = is_float ? 0x1p-23 : dtype_ == DType::bfloat16 ? 0x1p-7 : 0x1p-10;
    const double factor = i <= kMaxScore ? 2 : 3, slack = 2 * epsilon * errors.magnitude;
    const auto compare = [&](const char* which, double found, double usual) {
      if (found <= factor * usual + slack) return;
      text += fmt::format("{} error of {}: {:.3g}, standard attention's {:.3g}, largest element {:.3g}, {}\n", which,
                          kNames[i], found, usual, errors.magnitude, to_string(dtype_));
    };
    const auto rms = [&](double square) { return std::sqrt(square / static_cast<double>(errors.count)); };
    compare("largest", errors.largest, errors.usual_largest);
    compare("RMS", rms(errors.square), rms(errors.usual_square));
  }
  return text;
}

}  // namespace tilewise::attention::testing
