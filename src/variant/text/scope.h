// The names that a text declares: tables, parameters and lets.
#pragma once

#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "variant/graph.h"
#include "variant/text/lexer.h"

namespace tilewise::variant {

/// A part of an expression that has a name.
struct Let {
  NodeId node = kNoNode;
  bool reads_score = false;
};

struct Declaration {
  Token name;
  std::variant<Table, Parameter, Let> meaning;
  bool is_used = false;
};

class Scope {
 public:
  explicit Scope(const Lexer& lexer) : lexer_(lexer) {}

  /// Throws Error(parse) under `name` where it is reserved or already declared.
  void declare(const Token& name, std::variant<Table, Parameter, Let> meaning);
  void expect_free(const Token& name) const;

  /// Marks the declaration of that name as used; null where there is none.
  const Declaration* use(std::string_view name);

  /// How many declarations there are, and the end of those after the first `count`: throws where one was not used.
  std::size_t size() const { return declarations_.size(); }
  void shrink_to(std::size_t count);

  /// All names, for suggestions.
  std::vector<std::string_view> names() const;

 private:
  const Lexer& lexer_;
  std::vector<Declaration> declarations_;
  std::unordered_map<std::string_view, std::size_t> index_;
};

}  // namespace tilewise::variant
