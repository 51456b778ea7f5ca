#include "runtime/template_form.h"

#include <algorithm>
#include <cstdint>

namespace tilewise::runtime {

/// A piece of a template: text as it is written, {{ an output }}, {% a statement %}, or {# a comment #}.
struct TemplatePiece {
  enum class Kind : std::uint8_t { text, output, statement, comment };
  Kind kind = Kind::text;
  std::string_view inside{};                          // between the braces
  bool strips_before = false, strips_behind = false;  // {{- and -}}
};

namespace {

bool is_space(char letter) { return letter == ' ' || letter == '\n' || letter == '\t' || letter == '\r'; }

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

/// A statement in one spelling: white space only within string literals, those in single quotes, with line ends written
/// \n, and joined where two are added; members as message['role'].
std::string squeezed(std::string_view statement) {
  std::string out;
  char quote = 0;
  for (std::size_t i = 0; i < statement.size(); ++i) {
    const char letter = statement[i];
    if (quote == 0) {
      if (letter == '\'' || letter == '"') quote = letter;
      if (!is_space(letter)) out += letter == '"' ? '\'' : letter;
    } else if (letter == '\\' && i + 1 < statement.size()) {
      out += {letter, statement[++i]};
    } else if (letter == quote) {
      quote = 0;
      out += '\'';
    } else {
      out += letter == '\n' ? std::string("\\n") : std::string(1, letter);
    }
  }
  replace_all(out, "'+'", "");  // literals that are joined
  replace_all(out, "message.role", "message['role']");
  replace_all(out, "message.content", "message['content']");
  return out;
}

/// Where the inside of a piece ends, whatever its literals hold; nowhere (npos) for one that is not closed.
std::size_t end_of_inside(std::string_view text, std::size_t begin, std::string_view closed, bool has_literals) {
  char quote = 0;
  for (std::size_t i = begin; i < text.size(); ++i) {
    if (quote != 0) {
      if (text[i] == '\\')
        ++i;
      else if (text[i] == quote)
        quote = 0;
    } else if (text.substr(i).starts_with(closed)) {
      return i;
    } else if (has_literals && (text[i] == '\'' || text[i] == '"')) {
      quote = text[i];
    }
  }
  return std::string_view::npos;
}

std::vector<TemplatePiece> split(std::string_view text) {
  std::vector<TemplatePiece> pieces;
  while (!text.empty()) {
    const std::size_t at = std::min({text.find("{{"), text.find("{%"), text.find("{#")});
    if (at != 0) pieces.push_back({TemplatePiece::Kind::text, text.substr(0, at)});
    if (at == std::string_view::npos) return pieces;
    text.remove_prefix(at);
    TemplatePiece piece;
    const bool is_comment = text[1] == '#';
    piece.kind = is_comment       ? TemplatePiece::Kind::comment
                 : text[1] == '%' ? TemplatePiece::Kind::statement
                                  : TemplatePiece::Kind::output;
    const char closed[] = {text[1] == '{' ? '}' : text[1], '}'};
    const std::size_t end = end_of_inside(text, 2, {closed, 2}, !is_comment);
    piece.inside = text.substr(2, end == std::string_view::npos ? end : end - 2);
    piece.strips_before = piece.inside.starts_with('-');
    piece.strips_behind = piece.inside.ends_with('-');
    if (piece.strips_before) piece.inside.remove_prefix(1);
    if (piece.strips_behind && !piece.inside.empty()) piece.inside.remove_suffix(1);
    pieces.push_back(piece);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 2);
  }
  return pieces;
}

/// What a text between two others comes to, with Jinja's trim_blocks and lstrip_blocks: behind statements and comments
/// a line end is left out, before them the spaces of their line.
std::string_view trimmed(std::string_view text, const TemplatePiece* before, const TemplatePiece* behind) {
  const auto is_block = [](const TemplatePiece* piece) {
    return piece != nullptr && piece->kind != TemplatePiece::Kind::output;
  };
  bool starts_line = before == nullptr;
  if (before != nullptr && before->strips_behind) {
    while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  } else if (is_block(before) && text.starts_with('\n')) {
    text.remove_prefix(1);
    starts_line = true;
  }
  if (behind != nullptr && behind->strips_before) {
    while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  } else if (is_block(behind)) {
    const std::size_t line = text.rfind('\n');
    const std::size_t begin = line == std::string_view::npos ? 0 : line + 1;
    const bool only_spaces = text.find_first_not_of(" \t", begin) == std::string_view::npos;
    if (only_spaces && (starts_line || line != std::string_view::npos)) text = text.substr(0, begin);
  }
  return text;
}

}  // namespace

TemplateForm::TemplateForm(std::string_view text) {
  if (text.ends_with('\n')) text.remove_suffix(1);  // as Jinja does
  const std::vector<TemplatePiece> pieces = split(text);
  int depth = 0;  // of conditions and macros
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const TemplatePiece* const next = i + 1 < pieces.size() ? &pieces[i + 1] : nullptr;
    add(pieces[i], i > 0 ? &pieces[i - 1] : nullptr, next, depth);
  }
}

bool TemplateForm::writes_only(std::span<const std::string_view> known) const {
  for (std::size_t i = 0; i < always_.size(); ++i) {
    if (i == 0 && begins()) continue;
    if (std::ranges::count(known, always_[i]) == 0) return false;
  }
  return texts_.empty();
}

bool TemplateForm::writes_lines_on_conditions() const {
  return always_.empty() && texts_.size() == outputs_ && std::ranges::count(texts_, "\n") == std::ssize(texts_);
}

void TemplateForm::add(const TemplatePiece& piece, const TemplatePiece* before, const TemplatePiece* behind,
                       int& depth) {
  if (piece.kind == TemplatePiece::Kind::comment) return;
  if (piece.kind == TemplatePiece::Kind::text) {
    const std::string_view text = trimmed(piece.inside, before, behind);
    if (!text.empty()) texts_.emplace_back(text);
    return;
  }
  const std::string inside = squeezed(piece.inside);
  const bool is_output = piece.kind == TemplatePiece::Kind::output;
  text_ += (is_output ? "{{" : "{%") + inside + (is_output ? "}}" : "%}");
  if (is_output) {
    ++outputs_;
    if (depth == 0) always_.push_back(inside);
  } else if (inside.starts_with("if") || inside.starts_with("macro")) {
    ++depth;
  } else if (inside.starts_with("endif") || inside.starts_with("endmacro")) {
    --depth;
  }
}

}  // namespace tilewise::runtime
