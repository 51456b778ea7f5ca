// Random expressions, built twice at once: folded, as recording builds them, and raw.
#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/laws/random_variant.h"
#include "variant/build.h"
#include "variant/operations/operations.h"

namespace tilewise::laws {
namespace {

using namespace variant;  // NOLINT(google-build-using-namespace): expressions are made of its words

constexpr std::int32_t kInt32Min = std::numeric_limits<std::int32_t>::min();
constexpr std::int32_t kInt32Max = std::numeric_limits<std::int32_t>::max();

const Info& info_of(std::int32_t number) { return kInfo[static_cast<std::size_t>(number)]; }

/// The operations that can give a type.
std::vector<std::int32_t> operations_giving(Type type) {
  std::vector<std::int32_t> numbers;
  for (std::int32_t number = 0; number < static_cast<std::int32_t>(kInfo.size()); ++number) {
    const Rule rule = info_of(number).rule;
    const bool gives = rule == Rule::select    ? true
                       : type == Type::boolean ? rule == Rule::comparison || rule == Rule::logic
                       : type == Type::int32 ? rule == Rule::arithmetic || rule == Rule::integer || rule == Rule::to_int
                                             : rule == Rule::arithmetic || rule == Rule::real || rule == Rule::to_real;
    if (gives) numbers.push_back(number);
  }
  return numbers;
}

/// An operation that the float readings compute with an error of their own.
bool is_inexact(std::int32_t number) { return info_of(number).error.largest() > 0; }

/// Mostly NaN below 0.
bool wants_positive(std::int32_t number) {
  return number == number_of<Logarithm> || number == number_of<Logarithm2> || number == number_of<SquareRoot> ||
         number == number_of<ReciprocalSquareRoot> || number == number_of<Power>;
}
bool grows_fast(std::int32_t number) { return number == number_of<Exponential> || number == number_of<Exponential2>; }
bool divides(std::int32_t number) { return number == number_of<FloorDivision> || number == number_of<Modulo>; }

/// One node in both graphs.
struct Both {
  NodeId raw, folded;
};

class Builder {
 public:
  Builder(Choices& choices, const Options& options, const World& world, Role role)
      : choices_(choices), options_(options), world_(world), role_(role), fuel_(options.nodes) {}

  Expression build(Type type) {
    const Both root = inner(type, options_.depth);
    return {std::move(raw_), std::move(folded_), root.raw, root.folded};
  }

 private:
  /// Any expression; a leaf on a spent tape.
  Both expression(Type type, int depth) {
    const std::size_t choice = choices_.below(8);
    if (depth <= 0 || fuel_ <= 0 || choice == 0) return leaf(type);
    if (const auto& made = made_[static_cast<std::size_t>(type)]; choice == 1 && !made.empty())
      return made[choices_.below(made.size())];
    return inner(type, depth);
  }

  Both inner(Type type, int depth) {
    --fuel_;
    if (choices_.once_in(6)) {
      if (const auto result = read(type, depth)) return *result;
    }
    return operation(type, depth);
  }

  // Leaves.

  Both leaf(Type type) {
    switch (type) {
      case Type::boolean:
        if (choices_.once_in(8)) return constant(Type::boolean, static_cast<double>(choices_.below(2)));
        return operation(number_of<GreaterEqual>, {coordinate(), coordinate()});
      case Type::int32: return int_leaf();
      case Type::real: return real_leaf();
    }
    return {};
  }

  Both int_leaf() {
    switch (choices_.below(8)) {
      case 4: return literal(Type::int32, int_value());
      case 5: return constant(Type::int32, int_value());
      case 6: return parameter(Type::int32);
      case 7: return any_made(Type::int32);
      default: return coordinate();
    }
  }

  Both real_leaf() {
    switch (choices_.below(8)) {
      case 3: return literal(Type::real, choices_.real(options_.infinite));
      case 4: return constant(Type::real, choices_.real(options_.infinite));
      case 5: return parameter(Type::real);
      case 6: return any_made(Type::real);
      case 7: return operation(number_of<ToReal>, {coordinate()});
      default:
        if (role_ != Role::score) return operation(number_of<ToReal>, {coordinate()});
        return remember({raw_.add_score(), folded_.add_score()}, Type::real);
    }
  }

  double int_value() { return options_.wild_ints ? choices_.int32() : static_cast<double>(choices_.between(-60, 140)); }

  Both coordinate() {
    using enum Coordinate;
    static constexpr std::array kAny{query,     key,     query, key,   query_index, key_index, query_token,
                                     key_token, queries, keys,  batch, head,        kv_head};
    static constexpr std::array kOfSinks{head, batch, kv_head, queries, keys};
    const Coordinate chosen = role_ == Role::sink ? choices_.any_of(kOfSinks) : choices_.any_of(kAny);
    return remember({raw_.add_coordinate(chosen), folded_.add_coordinate(chosen)}, Type::int32);
  }

  /// A number as people write it: lifted, or a constant where it shapes the code.
  Both literal(Type type, double value) {
    return remember({make_number(raw_, type, value), make_number(folded_, type, value)}, type);
  }
  Both constant(Type type, double value) {
    return remember({raw_.add_constant(type, value), folded_.add_constant(type, value)}, type);
  }

  Both parameter(Type type) {
    std::vector<Parameter> fitting;
    for (const ParameterBinding& bound : world_.parameters) {
      if (bound.parameter.type() == type) fitting.push_back(bound.parameter);
    }
    if (fitting.empty()) return literal(type, type == Type::int32 ? 5 : 0.75);
    const Parameter& chosen = choices_.any_of(fitting);
    return remember({raw_.add_parameter(chosen), folded_.add_parameter(chosen)}, type);
  }

  /// A value that is there already, which is how literals come to be shared.
  Both any_made(Type type) {
    const auto& made = made_[static_cast<std::size_t>(type)];
    if (!made.empty()) return made[choices_.below(made.size())];
    return type == Type::int32 ? coordinate() : literal(Type::real, 2.5);
  }

  // Inner nodes.

  Both operation(Type type, int depth) {
    std::vector<std::int32_t> numbers = operations_giving(type);
    if (!options_.transcendental) std::erase_if(numbers, is_inexact);
    const std::int32_t number = choices_.any_of(numbers);
    std::vector<Both> operands;
    const Type chosen = info_of(number).rule != Rule::comparison ? type
                        : choices_.once_in(3)                    ? Type::real
                                                                 : Type::int32;
    for (int i = 0; i < info_of(number).operands; ++i) operands.push_back(operand(number, i, chosen, depth - 1));
    return operation(number, std::move(operands));
  }

  /// `chosen`: the type of an operation that takes several; of its operands, for a comparison.
  Both operand(std::int32_t number, int place, Type chosen, int depth) {
    if (place == 1 && (divides(number) || number == number_of<Power>)) return shaping_operand(number, depth);
    const Both given = expression(operand_type(number, place, chosen), depth);
    if (place == 0 && wants_positive(number) && !choices_.once_in(8)) return operation(number_of<Absolute>, {given});
    if (place == 0 && grows_fast(number) && !choices_.once_in(4))
      return operation(number_of<Minimum>, {given, constant(Type::real, 6)});
    return given;
  }

  static Type operand_type(std::int32_t number, int place, Type chosen) {
    switch (info_of(number).rule) {
      case Rule::arithmetic:
      case Rule::comparison: return chosen;
      case Rule::real:
      case Rule::to_int: return Type::real;
      case Rule::integer:
      case Rule::to_real: return Type::int32;
      case Rule::logic: return Type::boolean;
      case Rule::select: return place == 0 ? Type::boolean : chosen;
    }
    return chosen;
  }

  /// An exponent, or a divisor, which is refused where it is surely 0.
  Both shaping_operand(std::int32_t number, int depth) {
    if (number == number_of<Power>) {
      static constexpr std::array kExponents{2.0, 3.0, 0.5, -1.0, 1.0, 0.0, -0.5, 1.5, -2.0, 0.1, 8.0};
      const double exponent = choices_.any_of(kExponents);
      return choices_.once_in(2) ? literal(Type::real, exponent) : constant(Type::real, exponent);
    }
    static constexpr std::array kDivisors{2, 3, 1, 4, 7, 16, 64, 100, -1, -3, -8, kInt32Max, kInt32Min};
    if (!choices_.once_in(4)) return constant(Type::int32, choices_.any_of(kDivisors));
    const Both given = expression(Type::int32, depth);
    return folded_[given.folded].is_constant(0) ? literal(Type::int32, 10) : given;
  }

  Both operation(std::int32_t number, std::vector<Both> operands) {
    const Rule rule = info_of(number).rule;
    Node node{.kind = Kind::operation,
              .type = rule == Rule::comparison || rule == Rule::logic ? Type::boolean
                      : rule == Rule::to_real                         ? Type::real
                      : rule == Rule::to_int                          ? Type::int32
                                                                      : raw_[operands.back().raw].type,
              .operand_count = static_cast<std::uint8_t>(operands.size()),
              .index = number};
    std::vector<NodeId> folded;
    for (std::size_t i = 0; i < operands.size(); ++i) {
      node.operands[i] = operands[i].raw;
      folded.push_back(operands[i].folded);
    }
    leave_promotion_out(rule, folded);
    return remember({raw_.add(node), make_operation(folded_, number, folded)}, node.type);
  }

  /// Now and then gives construction an int where the raw graph has real(int), so that it has something to promote.
  void leave_promotion_out(Rule rule, std::vector<NodeId>& operands) {
    const std::size_t first = rule == Rule::select ? 1 : 0;
    const auto is_promoted = [this](NodeId id) {
      return folded_[id].kind == Kind::operation && folded_[id].index == number_of<ToReal>;
    };
    const auto is_plain_real = [&](NodeId id) { return folded_[id].type == Type::real && !is_promoted(id); };
    const bool stays_real = rule == Rule::real || std::any_of(operands.begin() + static_cast<std::ptrdiff_t>(first),
                                                              operands.end(), is_plain_real);
    const bool promotes =
        rule == Rule::real || rule == Rule::arithmetic || rule == Rule::comparison || rule == Rule::select;
    if (!promotes || !stays_real) return;
    for (std::size_t i = first; i < operands.size(); ++i) {
      if (is_promoted(operands[i]) && choices_.once_in(2)) operands[i] = folded_[operands[i]].operands[0];
    }
  }

  std::optional<Both> read(Type type, int depth) {
    std::vector<const BoundData*> fitting;
    for (const BoundData& bound : world_.tables) {
      if (bound.table.type() == type) fitting.push_back(&bound);
    }
    if (fitting.empty()) return std::nullopt;
    const BoundData& bound = *choices_.any_of(fitting);
    const bool clamped = choices_.once_in(2);
    std::vector<NodeId> raw, folded;
    for (int axis = 0; axis < bound.table.rank(); ++axis) {
      Both index = expression(Type::int32, depth - 2);
      if (!clamped) {  // inside by its modulus
        const auto extent = static_cast<double>(bound.data.extents[static_cast<std::size_t>(axis)]);
        index = operation(number_of<Modulo>, {index, constant(Type::int32, extent)});
      }
      raw.push_back(index.raw);
      folded.push_back(index.folded);
    }
    return remember({raw_.add_read(bound.table, raw, clamped), make_read(folded_, bound.table, folded, clamped)}, type);
  }

  Both remember(Both node, Type type) {
    made_[static_cast<std::size_t>(type)].push_back(node);
    return node;
  }

  Choices& choices_;
  const Options& options_;
  const World& world_;
  Role role_;
  int fuel_;
  Graph raw_, folded_;
  std::array<std::vector<Both>, 3> made_;  // by type
};

}  // namespace

Expression random_expression(Choices& choices, const Options& options, const World& world, Role role, Type type) {
  return Builder(choices, options, world, role).build(type);
}

}  // namespace tilewise::laws
