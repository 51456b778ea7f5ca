#include "variant/text/parser.h"

#include <algorithm>
#include <optional>
#include <string>

#include "core/fail.h"
#include "tilewise/suggest.h"
#include "variant/build.h"
#include "variant/recording.h"
#include "variant/text/declarations.h"
#include "variant/text/expression_parser.h"
#include "variant/text/words.h"
#include "variant/text/zoo_call.h"

namespace tilewise {
namespace variant {
namespace {

/// Declarations and stages. Everything is read into one graph, so what a `let` names is shared by all stages.
class Parser {
 public:
  Parser(std::string_view text, std::span<const zoo::Entry> zoo) : lexer_(text), zoo_(zoo) {}

  Variant parse() {
    if (lexer_.peek().kind == Token::Kind::end)
      lexer_.fail(lexer_.peek(), "the text is empty; write plain for plain attention");
    while (declaration()) lexer_.expect(";", "';' after the declaration");
    do {
      stage();
    } while (lexer_.take_if("&"));
    if (lexer_.peek().kind != Token::Kind::end) lexer_.fail_expected("'&' and another stage, or the end of the text");
    scope_.shrink_to(0);
    const auto dropout = whole_.has_dropout ? std::optional(whole_.dropout_probability) : std::nullopt;
    return lexer_.source().at(0, [&] { return make_variant(whole_.graph, whole_.stages, whole_.sink, dropout); });
  }

 private:
  bool declaration() {
    if (lexer_.take_if("table")) return parse_table(lexer_, scope_), true;
    if (lexer_.take_if("param")) return parse_parameter(lexer_, scope_), true;
    return let("");
  }

  bool let(std::string_view scoreless) {
    if (!lexer_.take_if("let")) return false;
    const Token name = lexer_.expect_name("the name of a part");
    scope_.expect_free(name);
    lexer_.expect("=", "'='");
    const auto [node, reads_score] = expressions_.parse(scoreless);
    scope_.declare(name, Let{node, reads_score});
    return true;
  }

  void stage() {
    const Token name = lexer_.expect_name("a stage: keep(...), score(...), sink(...), dropout(...) or a named variant");
    if (name.is("keep")) return keep(name);
    if (name.is("score")) return score(name);
    if (name.is("sink")) return sink(name);
    if (name.is("dropout")) return dropout(name);
    if (name.is("plain")) {
      if (lexer_.take_if("(")) lexer_.expect(")", "')'");
      return;
    }
    const auto entry = std::find_if(zoo_.begin(), zoo_.end(), [&](const zoo::Entry& e) { return name.is(e.name); });
    if (entry == zoo_.end()) fail_unknown(name);
    const Variant variant = parse_zoo_call(lexer_, name, *entry);
    lexer_.source().at(name.place, [&] { append(whole_, variant.data()); });
  }

  /// `(let d = ...; expression)`
  NodeId body(std::string_view scoreless) {
    lexer_.expect("(", "'('");
    const std::size_t outside = scope_.size();
    while (let(scoreless)) lexer_.expect(";", "';' and the rest of the stage, or an operator");
    const NodeId node = expressions_.parse(scoreless).node;
    lexer_.expect(")", "')' or an operator");
    scope_.shrink_to(outside);
    return node;
  }

  void keep(const Token& name) {
    const NodeId root = body("keep");
    if (const Type type = whole_.graph[root].type; type != Type::boolean) {
      lexer_.fail(
          name, fmt::format("keep(...) is given {}, expected bool; use score(...) to change scores", to_string(type)));
    }
    whole_.stages.push_back({Stage::Kind::keep, root});
  }

  void score(const Token& name) {
    const NodeId root = body("");
    const NodeId real =
        lexer_.source().at(name.place, [&] { return make_real(whole_.graph, root, "score(): the result"); });
    whole_.stages.push_back({Stage::Kind::score, real});
  }

  void sink(const Token& name) {
    const NodeId root = body("sink");
    whole_.sink = lexer_.source().at(name.place, [&] {
      if (whole_.sink != kNoNode)
        fail_argument("a second sink, expected at most one; write one sink with the joined logit");
      const NodeId real = make_real(whole_.graph, root, "sink(): the logit");
      expect_independent_of_entry(whole_.graph, real, "sink(): the logit");
      return real;
    });
  }

  void dropout(const Token& name) {
    lexer_.expect("(", "'('");
    const Number probability = lexer_.expect_number("the probability, 0 to 1");
    lexer_.expect(")", "')'");
    const Variant variant = lexer_.source().at(probability.place, [&] { return tilewise::dropout(probability.value); });
    lexer_.source().at(name.place, [&] { append(whole_, variant.data()); });
  }

  [[noreturn]] void fail_unknown(const Token& name) const {
    if (find_operation(Fix::call, name.text) != kNoOperation) {
      lexer_.fail(name,
                  fmt::format("'{}' stands outside of a stage; expected keep(...), score(...) or sink(...) around "
                              "the expression",
                              name.text));
    }
    std::vector<std::string_view> known(stage_names().begin(), stage_names().end());
    for (const zoo::Entry& entry : zoo_) known.push_back(entry.name);
    lexer_.fail(name, fmt::format("unknown variant '{}'{}", name.text, did_you_mean(name.text, known)));
  }

  Lexer lexer_;
  std::span<const zoo::Entry> zoo_;
  Variant::Data whole_;
  Scope scope_{lexer_};
  ExpressionParser expressions_{lexer_, scope_, whole_.graph};
};

}  // namespace

Variant parse(std::string_view text, std::span<const zoo::Entry> zoo) { return Parser(text, zoo).parse(); }

}  // namespace variant

Variant parse_variant(const std::string& text) { return variant::parse(text, zoo::entries()); }

}  // namespace tilewise
