#include "variant/scalar.h"

#include <algorithm>
#include <array>

#include "variant/operations/operations.h"

namespace tilewise::variant {
namespace {

template <class T, class Real>
T get(const Value<Real>& value) {
  if constexpr (std::is_same_v<T, bool>)
    return value.boolean;
  else if constexpr (std::is_same_v<T, std::int32_t>)
    return value.int32;
  else
    return value.real;
}

template <class Real, class T>
Value<Real> put(T result) {
  Value<Real> value{};
  if constexpr (std::is_same_v<T, bool>)
    value.boolean = result;
  else if constexpr (std::is_same_v<T, std::int32_t>)
    value.int32 = result;
  else
    value.real = result;
  return value;
}

/// Calls `O::scalar` on operands that are all of type T.
template <class O, class T, class Real>
Value<Real> call(const Value<Real>* operands) {
  return [&]<std::size_t... I>(std::index_sequence<I...>) { return put<Real>(O::scalar(get<T>(operands[I])...)); }
  (std::make_index_sequence<O::info.operands>{});
}

template <class O, class Real>
Value<Real> evaluate_one(Type operand_type, const Value<Real>* operands) {
  constexpr Rule rule = O::info.rule;
  if constexpr (rule == Rule::logic) {
    return call<O, bool>(operands);
  } else if constexpr (rule == Rule::integer || rule == Rule::to_real) {
    if constexpr (rule == Rule::to_real)
      return put<Real>(O::template scalar<Real>(operands[0].int32));
    else
      return call<O, std::int32_t>(operands);
  } else if constexpr (rule == Rule::real || rule == Rule::to_int) {
    return call<O, Real>(operands);
  } else if constexpr (rule == Rule::select) {
    const bool condition = operands[0].boolean;
    switch (operand_type) {
      case Type::boolean: return put<Real>(O::scalar(condition, operands[1].boolean, operands[2].boolean));
      case Type::int32: return put<Real>(O::scalar(condition, operands[1].int32, operands[2].int32));
      case Type::real: return put<Real>(O::scalar(condition, operands[1].real, operands[2].real));
    }
    return {};
  } else {  // arithmetic, comparison
    return operand_type == Type::int32 ? call<O, std::int32_t>(operands) : call<O, Real>(operands);
  }
}

template <class Real>
Value<Real> from_double(Type type, double number) {
  switch (type) {
    case Type::boolean: return put<Real>(number != 0);
    case Type::int32: return put<Real>(static_cast<std::int32_t>(number));
    case Type::real: return put<Real>(static_cast<Real>(number));
  }
  return {};
}

}  // namespace

template <class Real>
Value<Real> evaluate_operation(std::int32_t number, Type operand_type, const Value<Real>* operands) {
  static constexpr auto kEvaluate = for_each_operation([]<class O>() { return &evaluate_one<O, Real>; });
  return kEvaluate[static_cast<std::size_t>(number)](operand_type, operands);
}

template <class Real>
ScalarReading<Real>::ScalarReading(const Graph& graph, const Bound& bound)
    : graph_(graph), bound_(bound), values_(graph.size()), known_(graph.size(), 0) {}

template <class Real>
void ScalarReading<Real>::forget() {
  if (++epoch_ == 0) {  // wrapped: old marks could look new
    std::fill(known_.begin(), known_.end(), 0);
    epoch_ = 1;
  }
}

template <class Real>
void ScalarReading<Real>::enter(const Place& place) {
  place_ = place;
  forget();
}

template <class Real>
void ScalarReading<Real>::set_score(Real score) {
  score_ = score;
  forget();
}

template <class Real>
void ScalarReading<Real>::set_seed(Real seed) {
  seed_ = seed;
  forget();
}

template <class Real>
Value<Real> ScalarReading<Real>::evaluate(NodeId root) {
  path_.assign(1, root);  // instead of recursion: a long sum is deeper than a thread's stack
  while (!path_.empty()) {
    const NodeId id = path_.back();
    const auto inputs = graph_[id].inputs();
    const auto is_missing = [this](NodeId operand) { return known_[operand] != epoch_; };
    if (const auto missing = std::find_if(inputs.begin(), inputs.end(), is_missing); missing != inputs.end()) {
      path_.push_back(*missing);
      continue;
    }
    if (is_missing(id)) {
      values_[id] = value_of(graph_[id]);
      known_[id] = epoch_;
    }
    path_.pop_back();
  }
  return values_[root];
}

template <class Real>
Value<Real> ScalarReading<Real>::value_of(const Node& node) const {
  Value<Real> value{};
  const auto index = static_cast<std::size_t>(node.index);
  switch (node.kind) {
    case Kind::constant: return from_double<Real>(node.type, node.value);
    case Kind::literal: return from_double<Real>(node.type, bound_.literals[index]);
    case Kind::parameter: return from_double<Real>(node.type, bound_.parameters[index]);
    case Kind::coordinate: value.int32 = place_[index]; break;
    case Kind::score: value.real = score_; break;
    case Kind::seed: value.real = seed_; break;
    case Kind::scale: break;  // in no graph that is read so
    case Kind::read: return element_of(node);
    case Kind::operation: {
      std::array<Value<Real>, kMaxOperands> operands{};
      for (std::size_t i = 0; i < node.operand_count; ++i) operands[i] = values_[node.operands[i]];
      return evaluate_operation(node.index, graph_[node.operands[node.operand_count - 1]].type, operands.data());
    }
  }
  return value;
}

template <class Real>
Value<Real> ScalarReading<Real>::element_of(const Node& read) const {
  // Clamped: a read that is not proven inside belongs to an entry that is not kept, and must still be harmless.
  const BoundTable& table = bound_.tables[static_cast<std::size_t>(read.index)];
  if (table.is_empty()) return {};
  std::array<std::int64_t, kMaxRank> at{};
  for (std::size_t axis = 0; axis < read.operand_count; ++axis) {
    at[axis] = std::clamp<std::int64_t>(values_[read.operands[axis]].int32, 0, table.extents[axis] - 1);
  }
  return from_double<Real>(read.type, table.at({at.data(), read.operand_count}));
}

template class ScalarReading<float>;
template class ScalarReading<double>;
template Value<float> evaluate_operation(std::int32_t, Type, const Value<float>*);
template Value<double> evaluate_operation(std::int32_t, Type, const Value<double>*);

}  // namespace tilewise::variant
