#include "variant/text/zoo_call.h"

#include <algorithm>
#include <optional>
#include <string>

#include "core/fail.h"
#include "tilewise/suggest.h"

namespace tilewise::variant {
namespace {

using zoo::Argument;
using zoo::ArgumentInfo;
using zoo::ArgumentKind;

std::string described(const ArgumentInfo& info) {
  const std::string_view kind = info.kind == ArgumentKind::integer ? "an int"
                                : info.kind == ArgumentKind::real  ? "a number"
                                                                   : "a list of ints such as [1, 2, 3]";
  return fmt::format("{} for the argument '{}'", kind, info.name);
}

Argument parse_value(Lexer& lexer, const ArgumentInfo& info) {
  const std::string expected = described(info);
  if (info.kind == ArgumentKind::integer) return static_cast<double>(lexer.expect_int(expected));
  if (info.kind == ArgumentKind::real) {
    const Number number = lexer.expect_number(expected);
    if (number.value != number.value) lexer.source().fail(number.place, fmt::format("nan: expected {}", expected));
    return number.value;
  }
  std::vector<std::int32_t> list;
  lexer.expect("[", expected);
  if (lexer.take_if("]")) return list;
  do {
    list.push_back(lexer.expect_int("an int"));
  } while (lexer.take_if(","));
  lexer.expect("]", "',' or ']'");
  return list;
}

/// The arguments of one call as they come in.
class Call {
 public:
  Call(Lexer& lexer, const Token& name, const zoo::Entry& entry)
      : lexer_(lexer), name_(name), entry_(entry), given_(entry.arguments.size()) {}

  void parse_argument() {
    const bool by_name = lexer_.peek().kind == Token::Kind::name && lexer_.peek(1).is("=");
    const Token begin = lexer_.peek();
    const std::size_t place = by_name ? place_of(lexer_.take()) : next_;
    if (by_name) {
      lexer_.take();
      any_by_name_ = true;
    } else if (any_by_name_) {
      lexer_.fail(begin, "an argument without a name after one with a name; expected name=value");
    }
    if (place >= given_.size())
      lexer_.fail(begin, fmt::format("{}() takes {} argument{}; example: {}", entry_.name, given_.size(),
                                     given_.size() == 1 ? "" : "s", entry_.example));
    if (given_[place]) lexer_.fail(begin, fmt::format("the argument '{}' is given twice", begin.text));
    given_[place] = parse_value(lexer_, entry_.arguments[place]);
    ++next_;
  }

  Variant make() const {
    std::vector<Argument> arguments;
    for (std::size_t i = 0; i < given_.size(); ++i) {
      const ArgumentInfo& info = entry_.arguments[i];
      if (!given_[i] && !info.has_default) {
        lexer_.fail(name_, fmt::format("{}(): the argument '{}' is missing; example: {}", entry_.name, info.name,
                                       entry_.example));
      }
      arguments.push_back(given_[i].value_or(info.default_value));
    }
    return lexer_.source().at(name_.place, [&] { return entry_.make(arguments); });
  }

 private:
  std::size_t place_of(const Token& argument) const {
    std::vector<std::string_view> names;
    for (const ArgumentInfo& info : entry_.arguments) names.push_back(info.name);
    const auto found = std::find(names.begin(), names.end(), argument.text);
    if (found == names.end()) {
      lexer_.fail(argument, fmt::format("{}() has no argument '{}'{}", entry_.name, argument.text,
                                        did_you_mean(argument.text, names)));
    }
    return static_cast<std::size_t>(found - names.begin());
  }

  Lexer& lexer_;
  const Token& name_;
  const zoo::Entry& entry_;
  std::vector<std::optional<Argument>> given_;  // [entry's arguments]
  std::size_t next_ = 0;                        // the place of the next argument without a name
  bool any_by_name_ = false;
};

}  // namespace

Variant parse_zoo_call(Lexer& lexer, const Token& name, const zoo::Entry& entry) {
  Call call(lexer, name, entry);
  if (lexer.take_if("(") && !lexer.take_if(")")) {
    do {
      call.parse_argument();
    } while (lexer.take_if(","));
    lexer.expect(")", "',' or ')'");
  }
  return call.make();
}

}  // namespace tilewise::variant
