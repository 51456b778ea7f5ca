#include "variant/recording.h"

#include <atomic>

#include "core/fail.h"
#include "variant/build.h"
#include "variant/operations/operations.h"

namespace tilewise {
namespace variant {
namespace {

thread_local Recording* open_recording = nullptr;

std::uint32_t next_serial() {
  static std::atomic<std::uint32_t> serial{0};
  return ++serial;
}

template <class O, class... Operands>
Expr record(Operands... operands) {
  Recording& recording = Recording::current();
  const NodeId nodes[] = {recording.node_of(operands)...};
  return recording.handle(make_operation(recording.graph(), number_of<O>, nodes));
}

Expr record_number(Type type, double value) {
  Recording& recording = Recording::current();
  return recording.handle(make_number(recording.graph(), type, value));
}

}  // namespace

Recording::Recording() : Recording(Graph{}) {}

Recording::Recording(Graph graph) : graph_(std::move(graph)), outer_(open_recording), serial_(next_serial()) {
  open_recording = this;
}

Recording::~Recording() { open_recording = outer_; }

Recording& Recording::current() {
  if (open_recording == nullptr) {
    fail_argument(
        "an expression outside of a recording: expected to be inside the function given to keep(), score() or sink()");
  }
  return *open_recording;
}

NodeId Recording::node_of(Expr expression) const {
  if (expression.recording_ != serial_) {
    fail_argument(
        "an expression of another recording: expected one that this function made or was given; "
        "do not keep expressions beyond the function that recorded them");
  }
  return expression.node_;
}

At Recording::at() {
  const auto coordinate = [this](Coordinate c) { return handle(graph_.add_coordinate(c)); };
  using enum Coordinate;
  return At{.query = coordinate(query),
            .key = coordinate(key),
            .query_index = coordinate(query_index),
            .key_index = coordinate(key_index),
            .query_token = coordinate(query_token),
            .key_token = coordinate(key_token),
            .queries = coordinate(queries),
            .keys = coordinate(keys),
            .batch = coordinate(batch),
            .head = coordinate(head),
            .kv_head = coordinate(kv_head)};
}

Gradients<2> Power::adjoint(Expr, Expr d, Expr x, Expr exponent) {
  const double power = Recording::current().graph()[exponent.node()].value;
  if (power == 0) return {0.0, 0.0};  // x ** 0 is 1, at 0 and infinity as well
  return {d * exponent * pow(x, power - 1), 0.0};
}

}  // namespace variant

using namespace variant;  // NOLINT(google-build-using-namespace): this file defines the operators of both

Expr Expr::of_node(std::uint32_t node) { return Recording::current().handle(node); }
Expr Expr::boolean(bool value) { return record_number(Type::boolean, value ? 1 : 0); }
Expr Expr::int32(std::int32_t value) { return record_number(Type::int32, value); }
Expr Expr::real(double value) { return record_number(Type::real, value); }
void Expr::refuse_integer(const std::string& value) {
  fail_argument("the integer {} does not fit int32; expected -2147483648 to 2147483647, or a real such as {}.0", value,
                value);
}
Type Expr::type() const {
  Recording& recording = Recording::current();
  return recording.graph()[recording.node_of(*this)].type;
}

Expr operator+(Expr a, Expr b) { return record<Addition>(a, b); }
Expr operator-(Expr a, Expr b) { return record<Subtraction>(a, b); }
Expr operator*(Expr a, Expr b) { return record<Multiplication>(a, b); }
Expr operator/(Expr a, Expr b) { return record<Division>(a, b); }
Expr operator-(Expr a) { return record<Negation>(a); }
Expr floor_divide(Expr a, Expr b) { return record<FloorDivision>(a, b); }
Expr operator%(Expr a, Expr b) { return record<Modulo>(a, b); }
Expr min(Expr a, Expr b) { return record<Minimum>(a, b); }
Expr max(Expr a, Expr b) { return record<Maximum>(a, b); }
Expr abs(Expr a) { return record<Absolute>(a); }
Expr floor(Expr a) { return record<RoundDown>(a); }

Expr operator&(Expr a, Expr b) { return record<BitAnd>(a, b); }
Expr operator|(Expr a, Expr b) { return record<BitOr>(a, b); }
Expr operator^(Expr a, Expr b) { return record<BitXor>(a, b); }
Expr operator~(Expr a) { return record<BitNot>(a); }
Expr operator<<(Expr a, Expr b) { return record<ShiftUp>(a, b); }
Expr operator>>(Expr a, Expr b) { return record<ShiftDown>(a, b); }

Expr operator==(Expr a, Expr b) { return record<Equal>(a, b); }
Expr operator!=(Expr a, Expr b) { return record<NotEqual>(a, b); }
Expr operator<(Expr a, Expr b) { return record<Less>(a, b); }
Expr operator<=(Expr a, Expr b) { return record<LessEqual>(a, b); }
Expr operator>(Expr a, Expr b) { return record<Greater>(a, b); }
Expr operator>=(Expr a, Expr b) { return record<GreaterEqual>(a, b); }
Expr operator&&(Expr a, Expr b) { return record<Conjunction>(a, b); }
Expr operator||(Expr a, Expr b) { return record<Disjunction>(a, b); }
Expr operator!(Expr a) { return record<Inversion>(a); }
Expr select(Expr condition, Expr if_true, Expr if_false) { return record<Selection>(condition, if_true, if_false); }

Expr exp(Expr x) { return record<Exponential>(x); }
Expr exp2(Expr x) { return record<Exponential2>(x); }
Expr log(Expr x) { return record<Logarithm>(x); }
Expr log2(Expr x) { return record<Logarithm2>(x); }
Expr sqrt(Expr x) { return record<SquareRoot>(x); }
Expr rsqrt(Expr x) { return record<ReciprocalSquareRoot>(x); }
Expr tanh(Expr x) { return record<HyperbolicTangent>(x); }
Expr sigmoid(Expr x) { return record<Sigmoid>(x); }
Expr erf(Expr x) { return record<ErrorFunction>(x); }
Expr sin(Expr x) { return record<Sine>(x); }
Expr cos(Expr x) { return record<Cosine>(x); }
Expr pow(Expr x, double exponent) { return record<Power>(x, constant(exponent)); }

Expr to_real(Expr x) {
  Recording& recording = Recording::current();
  return recording.handle(make_real(recording.graph(), recording.node_of(x), "to_real()'s operand"));
}
Expr to_int(Expr x) { return record<ToInt>(x); }

Expr constant(double value) {
  if (std::isnan(value)) fail_argument("a NaN constant: expected a number");
  Recording& recording = Recording::current();
  return recording.handle(recording.graph().add_constant(Type::real, value));
}
Expr constant(std::int32_t value) {
  Recording& recording = Recording::current();
  return recording.handle(recording.graph().add_constant(Type::int32, value));
}

Parameter::operator Expr() const {
  Recording& recording = Recording::current();
  return recording.handle(recording.graph().add_parameter(*this));
}

Expr Table::read(std::span<const Expr> index, bool clamped) const {
  Recording& recording = Recording::current();
  std::vector<NodeId> nodes;
  for (Expr expression : index) nodes.push_back(recording.node_of(expression));
  return recording.handle(make_read(recording.graph(), *this, nodes, clamped));
}

}  // namespace tilewise
