// Expressions: Python's operators and precedence over the operations of the list.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "variant/graph.h"
#include "variant/text/lexer.h"
#include "variant/text/scope.h"

namespace tilewise::variant {

/// Operators, parentheses and calls nest at most this deep, so that no text overflows the stack. The printer names
/// parts (let) long before.
inline constexpr int kMaxNesting = 200;

/// Reads expressions into a graph.
class ExpressionParser {
 public:
  ExpressionParser(Lexer& lexer, Scope& scope, Graph& graph) : lexer_(lexer), scope_(scope), graph_(graph) {}

  struct Result {
    NodeId node = kNoNode;
    bool reads_score = false;
  };

  /// One expression. Where the score may not be read, `scoreless` names the stage ("keep"); else it is empty.
  Result parse(std::string_view scoreless);

 private:
  NodeId operators(int binding);
  NodeId prefix(int binding);
  NodeId operand();
  NodeId number();
  NodeId constant();
  NodeId call(const Token& name);
  NodeId read(const Token& name, const Table& table);
  NodeId named(const Token& name);
  std::vector<NodeId> list(std::string_view closing);
  [[noreturn]] void fail_chained(const Token& symbol, std::size_t begin, std::size_t middle) const;
  [[noreturn]] void fail_unknown_function(const Token& name) const;
  [[noreturn]] void fail_unknown_name(const Token& name) const;
  void expect_score_allowed(const Token& name) const;

  Lexer& lexer_;
  Scope& scope_;
  Graph& graph_;
  std::string_view scoreless_;
  bool reads_score_ = false;
  int nesting_ = 0;
};

}  // namespace tilewise::variant
