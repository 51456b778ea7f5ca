// How laws read: same bits, whole entries, rebuilt graphs.
#pragma once

#include <bit>
#include <cmath>
#include <functional>
#include <vector>

#include "tilewise/variant.h"
#include "variant/bindings.h"
#include "variant/graph.h"
#include "variant/scalar.h"

namespace tilewise::laws {

/// The same bits; any NaN equals any other.
template <class Real>
bool same(Real a, Real b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  return a == b && std::signbit(a) == std::signbit(b);
}
template <class Real>
bool same(Type type, variant::Value<Real> a, variant::Value<Real> b) {
  switch (type) {
    case Type::boolean: return a.boolean == b.boolean;
    case Type::int32: return a.int32 == b.int32;
    case Type::real: return same(a.real, b.real);
  }
  return false;
}

/// A value as a double, whatever its type.
template <class Real>
double as_double(Type type, variant::Value<Real> value) {
  switch (type) {
    case Type::boolean: return value.boolean ? 1 : 0;
    case Type::int32: return value.int32;
    case Type::real: return static_cast<double>(value.real);
  }
  return 0;
}

/// What a variant's stages make of one entry.
template <class Real>
struct Outcome {
  bool kept = true;
  Real score = 0;  // of a kept entry

  friend bool operator==(const Outcome& a, const Outcome& b) {
    return a.kept == b.kept && (!a.kept || same(a.score, b.score));
  }
};

/// Applies the stages in order: an entry is removed for good by a false keep or a score of -inf; other scores are
/// clamped from below at -2^126; NaN stays.
template <class Real>
Outcome<Real> apply(const Variant& variant, variant::ScalarReading<Real>& reading, Outcome<Real> entry) {
  for (const variant::Stage& stage : variant.data().stages) {
    if (!entry.kept) return entry;
    reading.set_score(entry.score);
    const variant::Value<Real> value = reading.evaluate(stage.root);
    if (stage.kind == variant::Stage::Kind::keep) {
      entry.kept = value.boolean;
    } else {
      entry.kept = value.real != -std::numeric_limits<Real>::infinity();
      entry.score = value.real < Real(-0x1p126) ? Real(-0x1p126) : value.real;
    }
  }
  return entry;
}

/// The variant built again, node by node through make_operation, with its leaves replaced.
struct Replacement {
  std::function<double(const variant::Node&)> literal = [](const variant::Node& given) { return given.value; };
  std::function<Table(const Table&)> table = [](const Table& given) { return given; };
  std::function<Parameter(const Parameter&)> parameter = [](const Parameter& given) { return given; };
  std::function<variant::Node(variant::NodeId, variant::Node)> node = [](variant::NodeId, variant::Node given) {
    return given;
  };
};
Variant rebuilt(const Variant& variant, const Replacement& with);

}  // namespace tilewise::laws
