#include "variant/text/scope.h"

#include "core/fail.h"
#include "variant/text/words.h"

namespace tilewise::variant {

void Scope::expect_free(const Token& name) const {
  if (is_reserved(name.text))
    lexer_.fail(name, fmt::format("'{}' has a meaning of its own, expected another name", name.text));
  if (index_.contains(name.text))
    lexer_.fail(name, fmt::format("'{}' is declared twice, expected a name for each", name.text));
}

void Scope::declare(const Token& name, std::variant<Table, Parameter, Let> meaning) {
  expect_free(name);
  index_.emplace(name.text, declarations_.size());
  declarations_.push_back({name, std::move(meaning)});
}

const Declaration* Scope::use(std::string_view name) {
  const auto found = index_.find(name);
  if (found == index_.end()) return nullptr;
  declarations_[found->second].is_used = true;
  return &declarations_[found->second];
}

void Scope::shrink_to(std::size_t count) {
  for (std::size_t i = count; i < declarations_.size(); ++i) {
    const Declaration& declaration = declarations_[i];
    if (!declaration.is_used)
      lexer_.fail(declaration.name,
                  fmt::format("'{}' is not used; expected a use, or no declaration", declaration.name.text));
    index_.erase(declaration.name.text);
  }
  declarations_.erase(declarations_.begin() + static_cast<std::ptrdiff_t>(count), declarations_.end());
}

std::vector<std::string_view> Scope::names() const {
  std::vector<std::string_view> names;
  for (const Declaration& declaration : declarations_) names.push_back(declaration.name.text);
  return names;
}

}  // namespace tilewise::variant
