#include "variant/text/expression_parser.h"

#include "core/fail.h"
#include "tilewise/suggest.h"
#include "variant/build.h"
#include "variant/operations/operations.h"
#include "variant/text/words.h"

namespace tilewise::variant {
namespace {

const Info& info_of(std::int32_t number) { return kInfo[static_cast<std::size_t>(number)]; }

/// Counts a level of nesting while it lives.
class Level {
 public:
  explicit Level(int& nesting) : nesting_(nesting) { ++nesting_; }
  ~Level() { --nesting_; }
  Level(const Level&) = delete;
  Level& operator=(const Level&) = delete;

 private:
  int& nesting_;
};

}  // namespace

ExpressionParser::Result ExpressionParser::parse(std::string_view scoreless) {
  scoreless_ = scoreless;
  reads_score_ = false;
  const NodeId node = operators(0);
  return {node, reads_score_};
}

/// Operands joined by infix operators that bind at least as tightly as `binding`.
NodeId ExpressionParser::operators(int binding) {
  const Level level(nesting_);
  if (nesting_ > kMaxNesting) {
    lexer_.fail(lexer_.peek(),
                fmt::format("the expression nests more than {} deep; name parts of it: let x = ...;", kMaxNesting));
  }
  const std::size_t begin = lexer_.peek().place;
  NodeId left = prefix(binding);
  std::size_t middle = 0;  // where the right side of a comparison just read begins
  for (;;) {
    const Token symbol = lexer_.peek();
    const std::int32_t number = find_operation(Fix::infix, symbol.text);
    if (number == kNoOperation || info_of(number).precedence < binding) return left;
    const bool compares = info_of(number).rule == Rule::comparison;
    if (compares && middle != 0) fail_chained(symbol, begin, middle);
    lexer_.take();
    middle = compares ? lexer_.peek().place : 0;
    const NodeId right = operators(right_binding(number));
    left = lexer_.source().at(symbol.place, [&] { return make_operation(graph_, number, {{left, right}}); });
  }
}

NodeId ExpressionParser::prefix(int binding) {
  const Token symbol = lexer_.peek();
  const std::int32_t number = find_operation(Fix::prefix, symbol.text);
  if (number == kNoOperation) return operand();
  // -5 is a number of its own; -5 ** 2 is -(5 ** 2), as in Python.
  const bool is_sign = number == number_of<Negation> && lexer_.number_is_next(1);
  if (is_sign && find_operation(Fix::infix, lexer_.peek(2).text) != number_of<Power>) return this->number();
  if (info_of(number).precedence < binding)
    lexer_.fail(symbol,
                fmt::format("expected '(' before '{}': it binds less tightly than what is before it", symbol.text));
  lexer_.take();
  const NodeId argument = operators(info_of(number).precedence);
  return lexer_.source().at(symbol.place, [&] { return make_operation(graph_, number, {{argument}}); });
}

NodeId ExpressionParser::operand() {
  if (lexer_.number_is_next()) return number();
  if (lexer_.take_if("(")) {
    const NodeId inner = operators(0);
    lexer_.expect(")", "')' or an operator");
    return inner;
  }
  const Token name = lexer_.expect_name("a number, a name, a function or '('");
  if (lexer_.peek().is("(")) return call(name);
  return named(name);
}

NodeId ExpressionParser::number() {
  const Number number = lexer_.expect_number("a number");
  const Type type = number.is_real ? Type::real : Type::int32;
  const double value = number.is_real ? number.value : lexer_.as_int(number);
  return lexer_.source().at(number.place, [&] { return make_number(graph_, type, value); });
}

/// The inside of constant(5) or constant(0.1), which is not lifted.
NodeId ExpressionParser::constant() {
  const Number number = lexer_.expect_number("a number that constant() bakes in");
  if (number.value != number.value) lexer_.source().fail(number.place, "a NaN constant: expected a number");
  return number.is_real ? graph_.add_constant(Type::real, number.value)
                        : graph_.add_constant(Type::int32, lexer_.as_int(number));
}

/// Expressions separated by commas, and what closes them.
std::vector<NodeId> ExpressionParser::list(std::string_view closing) {
  std::vector<NodeId> nodes;
  if (lexer_.take_if(closing)) return nodes;
  do {
    nodes.push_back(operators(0));
  } while (lexer_.take_if(","));
  lexer_.expect(closing, fmt::format("',', '{}' or an operator", closing));
  return nodes;
}

NodeId ExpressionParser::call(const Token& name) {
  lexer_.take();
  if (name.is("constant")) {
    const NodeId node = constant();
    lexer_.expect(")", "')'");
    return node;
  }
  const std::int32_t number = find_operation(Fix::call, name.text);
  if (number == kNoOperation) fail_unknown_function(name);
  const std::vector<NodeId> arguments = list(")");
  const auto expected = static_cast<std::size_t>(info_of(number).operands);
  if (arguments.size() != expected) {
    lexer_.fail(name, fmt::format("{}() takes {} operand{}, found {}", name.text, expected, expected == 1 ? "" : "s",
                                  arguments.size()));
  }
  return lexer_.source().at(name.place, [&] { return make_operation(graph_, number, arguments); });
}

NodeId ExpressionParser::read(const Token& name, const Table& table) {
  const bool clamped = lexer_.take_if(".");
  if (clamped) lexer_.expect("clamped", "'clamped'");
  lexer_.expect("[", fmt::format("'[': the table is read as {0}[i] or {0}.clamped[i]", name.text));
  const std::vector<NodeId> indices = list("]");
  return lexer_.source().at(name.place, [&] { return make_read(graph_, table, indices, clamped); });
}

NodeId ExpressionParser::named(const Token& name) {
  if (name.is("true") || name.is("false")) return graph_.add_constant(Type::boolean, name.is("true") ? 1 : 0);
  if (name.is("s")) {
    expect_score_allowed(name);
    reads_score_ = true;
    return graph_.add_score();
  }
  for (int c = 0; c < kCoordinates; ++c) {
    const auto coordinate = static_cast<Coordinate>(c);
    if (name.is(to_string(coordinate))) return graph_.add_coordinate(coordinate);
  }
  const Declaration* declaration = scope_.use(name.text);
  if (declaration == nullptr) fail_unknown_name(name);
  if (const Table* table = std::get_if<Table>(&declaration->meaning)) return read(name, *table);
  if (lexer_.peek().is("[") || lexer_.peek().is("."))
    lexer_.fail(name, fmt::format("'{}' is not a table, expected no index", name.text));
  if (const Parameter* parameter = std::get_if<Parameter>(&declaration->meaning))
    return graph_.add_parameter(*parameter);
  const Let& let = std::get<Let>(declaration->meaning);
  if (let.reads_score) expect_score_allowed(name);
  reads_score_ |= let.reads_score;
  return let.node;
}

void ExpressionParser::expect_score_allowed(const Token& name) const {
  if (scoreless_.empty()) return;
  lexer_.fail(name, fmt::format("'{}' reads the score, which {}(...) does not see; expected coordinates, parameters "
                                "and tables only",
                                name.text, scoreless_));
}

void ExpressionParser::fail_chained(const Token& symbol, std::size_t begin, std::size_t middle) const {
  std::string_view first = lexer_.text(begin, symbol.place), shared = lexer_.text(middle, symbol.place);
  constexpr std::size_t kShown = 60;  // what fits a line of the message
  if (first.size() > kShown) first = "a < b", shared = "b";
  const auto trimmed = [](std::string_view text) { return text.substr(0, text.find_last_not_of(" \t\r\n") + 1); };
  lexer_.fail(symbol, fmt::format("comparisons do not chain; write '{} and {} {} ...'", trimmed(first), trimmed(shared),
                                  symbol.text));
}

void ExpressionParser::fail_unknown_function(const Token& name) const {
  for (std::int32_t number = 0; number < static_cast<std::int32_t>(kInfo.size()); ++number) {
    if (info_of(number).name != name.text) continue;
    lexer_.fail(name, fmt::format("'{}' is written '{}' here", name.text, info_of(number).symbol));
  }
  lexer_.fail(name, fmt::format("unknown function '{}'{}", name.text, did_you_mean(name.text, function_names())));
}

void ExpressionParser::fail_unknown_name(const Token& name) const {
  std::vector<std::string_view> known = scope_.names();
  for (int c = 0; c < kCoordinates; ++c) known.emplace_back(to_string(static_cast<Coordinate>(c)));
  const bool is_function = find_operation(Fix::call, name.text) != kNoOperation;
  const std::string hint =
      is_function ? fmt::format("; a function is called as {}(...)", name.text) : did_you_mean(name.text, known);
  lexer_.fail(name, fmt::format("unknown name '{}'{}", name.text, hint));
}

}  // namespace tilewise::variant
