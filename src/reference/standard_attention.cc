// Standard attention's public calls: every head of every sequence, in the precision that was asked for.
#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "core/fail.h"
#include "core/half.h"
#include "reference/precision.h"
#include "reference/standard_backward.h"
#include "reference/storage.h"
#include "tilewise/reference.h"

namespace tilewise {
namespace reference {
namespace {

Rows query_rows(const variant::Call& call, std::int64_t sequence) {
  const Sequence& lengths = call.problem.sequences[static_cast<std::size_t>(sequence)];
  return {call.queries_packed, sequence, lengths.first_query_token, 0, lengths.s_q};
}

Rows key_rows(const variant::Call& call, std::int64_t sequence) {
  const Sequence& lengths = call.problem.sequences[static_cast<std::size_t>(sequence)];
  Rows rows{call.keys_packed, sequence, lengths.first_key_token, lengths.key_start, lengths.s_kv};
  if (call.keys_paged) {
    rows.pages = call.pages_of(sequence);
    rows.page_tokens = call.page_tokens;
  }
  return rows;
}

/// Calls `run(precision)` with the type that stands for `precision`.
template <class Run>
auto with_precision(DType precision, Run run) {
  switch (precision) {
    case DType::float64: return run(Float64{});
    case DType::float32: return run(Float32{});
    case DType::float16: return run(Stored16<Float16>{});
    case DType::bfloat16: return run(Stored16<Bfloat16>{});
    default: fail_argument("precision is {}; expected float64, float32, float16 or bfloat16", to_string(precision));
  }
}

template <class Precision, class Real = typename Precision::Real>
HeadInputs<Real> load_head(const ForwardInputs& inputs, const variant::Call& call, std::int64_t sequence,
                           std::int64_t head) {
  const std::int64_t kv_head = head / (call.problem.h_q / call.problem.h_kv);
  const Rows queries = query_rows(call, sequence), keys = key_rows(call, sequence);
  return {load<Precision>(inputs.q, queries, head, inputs.q_scales),
          load<Precision>(inputs.k, keys, kv_head, inputs.k_scales),
          load<Precision>(inputs.v, keys, kv_head, inputs.v_scales)};
}

template <class Precision>
StandardTraffic forward(const Variant& variant, const ForwardInputs& inputs, const ForwardOutputs& outputs) {
  using Real = typename Precision::Real;
  const variant::Call call = variant::check_forward(variant, inputs, outputs);
  SlowMemory<Precision> memory;
  Entries<Real> entries(variant, call);
  std::vector<HeadOutputs<Real>> results;  // of all heads: an error on the way leaves the outputs alone
  for (std::int64_t sequence = 0; sequence < call.problem.b(); ++sequence) {
    for (std::int64_t head = 0; head < call.problem.h_q; ++head) {
      entries.enter_head(sequence, head);
      HeadOutputs<Real> out =
          forward_head(memory, entries, load_head<Precision>(inputs, call, sequence, head), outputs.lse.has_value());
      results.push_back({{}, {}, std::move(out.o), std::move(out.lse), out.max_score});
    }
  }
  auto* const max_scores = outputs.max_score ? static_cast<float*>(outputs.max_score->data) : nullptr;  // [h_q]
  if (max_scores != nullptr) std::fill_n(max_scores, call.problem.h_q, -std::numeric_limits<float>::infinity());
  auto result = results.begin();
  for (std::int64_t sequence = 0; sequence < call.problem.b(); ++sequence) {
    for (std::int64_t head = 0; head < call.problem.h_q; ++head, ++result) {
      if (max_scores != nullptr) max_scores[head] = std::max(max_scores[head], static_cast<float>(result->max_score));
      store(outputs.o, query_rows(call, sequence), head, result->o);
      if (outputs.lse) store_numbers(*outputs.lse, query_rows(call, sequence), head, result->lse);
    }
  }
  return memory.traffic();
}

/// The gradients of one key head of one sequence and of the query heads that it serves.
template <class Real>
struct GroupGradients {
  std::vector<Matrix<Real>> d_q;  // [h_q / h_kv]
  Matrix<Real> d_k, d_v;
};

template <class Precision>
class Backward {
  using Real = typename Precision::Real;

 public:
  Backward(const Variant& variant, const ForwardInputs& inputs, const BackwardInputs& given,
           const BackwardOutputs& outputs)
      : variant_(variant),
        inputs_(inputs),
        given_(given),
        outputs_(outputs),
        call_(variant::check_backward(variant, inputs, given, outputs)),
        group_(call_.problem.h_q / call_.problem.h_kv),
        entries_(variant, call_),
        derivatives_(variant, call_) {}

  StandardTraffic run() {
    std::vector<GroupGradients<Real>> results;  // of all heads: an error on the way leaves the outputs alone
    for (std::int64_t sequence = 0; sequence < call_.problem.b(); ++sequence) {
      for (std::int64_t head = 0; head < call_.problem.h_kv; ++head) results.push_back(group_of(sequence, head));
    }
    auto result = results.begin();
    for (std::int64_t sequence = 0; sequence < call_.problem.b(); ++sequence) {
      for (std::int64_t head = 0; head < call_.problem.h_kv; ++head) store_group(sequence, head, *result++);
    }
    store_variant_gradients();
    return memory_.traffic();
  }

 private:
  GroupGradients<Real> group_of(std::int64_t sequence, std::int64_t kv_head) {
    GroupGradients<Real> group;
    std::vector<Matrix<Real>> d_k, d_v;  // [h_q / h_kv]
    for (std::int64_t head = kv_head * group_; head < (kv_head + 1) * group_; ++head) {
      HeadGradients<Real> of_head = head_of(sequence, head);
      group.d_q.push_back(std::move(of_head.d_q));
      d_k.push_back(std::move(of_head.d_k));
      d_v.push_back(std::move(of_head.d_v));
    }
    if (outputs_.d_k) group.d_k = sum_of_group(memory_, d_k);
    if (outputs_.d_v) group.d_v = sum_of_group(memory_, d_v);
    return group;
  }

  HeadGradients<Real> head_of(std::int64_t sequence, std::int64_t head) {
    entries_.enter_head(sequence, head);
    derivatives_.enter_head(sequence, head);
    const Rows queries = query_rows(call_, sequence);
    const HeadInputs<Real> in = load_head<Precision>(inputs_, call_, sequence, head);
    SlowMemory<Precision> of_forward;  // its traffic is not this pass's
    const HeadOutputs<Real> saved = forward_head(of_forward, entries_, in, false);
    const Matrix<Real> d_o = load<Precision>(given_.d_o, queries, head);
    std::optional<std::vector<Real>> d_lse;
    if (given_.d_lse) d_lse = load_numbers<Real>(*given_.d_lse, queries, head);
    return backward_head(memory_, entries_, derivatives_, in, saved, d_o, d_lse,
                         {outputs_.d_q.has_value(), outputs_.d_k.has_value(), outputs_.d_v.has_value()});
  }

  void store_group(std::int64_t sequence, std::int64_t kv_head, const GroupGradients<Real>& group) {
    for (std::int64_t i = 0; i < group_ && outputs_.d_q; ++i) {
      store(*outputs_.d_q, query_rows(call_, sequence), kv_head * group_ + i, group.d_q[static_cast<std::size_t>(i)]);
    }
    if (outputs_.d_k) store(*outputs_.d_k, key_rows(call_, sequence), kv_head, group.d_k);
    if (outputs_.d_v) store(*outputs_.d_v, key_rows(call_, sequence), kv_head, group.d_v);
  }

  void store_variant_gradients() {
    const auto index_in = [](const auto& all, const auto& one) {
      return static_cast<std::size_t>(std::ranges::find(all, one) - all.begin());
    };
    const VariantGradients<Real>& gradients = derivatives_.gradients();
    for (const auto& [table, gradient] : outputs_.d_tables)
      store_row_major(gradient, gradients.tables[index_in(variant_.tables(), table)]);
    for (const auto& [parameter, gradient] : outputs_.d_parameters)
      store_row_major<Real>(gradient, {gradients.parameters[index_in(variant_.parameters(), parameter)]});
  }

  const Variant& variant_;
  const ForwardInputs& inputs_;
  const BackwardInputs& given_;
  const BackwardOutputs& outputs_;
  variant::Call call_;
  std::int64_t group_;
  SlowMemory<Precision> memory_;
  Entries<Real> entries_;
  Derivatives<Real> derivatives_;
};

}  // namespace
}  // namespace reference

StandardTraffic standard_attention(const Variant& variant, const ForwardInputs& inputs, const ForwardOutputs& outputs,
                                   DType precision) {
  return reference::with_precision(
      precision, [&]<class Precision>(Precision) { return reference::forward<Precision>(variant, inputs, outputs); });
}

StandardTraffic standard_attention_backward(const Variant& variant, const ForwardInputs& inputs,
                                            const BackwardInputs& given, const BackwardOutputs& outputs,
                                            DType precision) {
  return reference::with_precision(precision, [&]<class Precision>(Precision) {
    return reference::Backward<Precision>(variant, inputs, given, outputs).run();
  });
}

}  // namespace tilewise
