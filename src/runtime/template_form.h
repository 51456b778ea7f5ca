// A chat template brought into one spelling, so that it can be compared with those that are known. It is split into its
// statements and not run.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tilewise::runtime {

struct TemplatePiece;

/// A template in one spelling, and what it writes into every conversation.
class TemplateForm {
 public:
  /// Of a template in Jinja, as models' own framework reads it (trim_blocks and lstrip_blocks). What is no Jinja gives
  /// a form, too.
  explicit TemplateForm(std::string_view text);

  /// Its statements, as "{{...}}" and "{%...%}".
  const std::string& text() const { return text_; }
  bool has(std::string_view part) const { return text_.find(part) != std::string::npos; }

  /// Whether every conversation begins with the token that begins a text.
  bool begins() const { return !always_.empty() && always_.front() == "bos_token"; }

  /// Whether nothing is written but by outputs, and those outside of every condition and macro, be it in a loop, are
  /// among `known`, or are bos_token, which comes first.
  bool writes_only(std::span<const std::string_view> known) const;

  /// Whether all outputs are conditional, each with a line end behind it, and nothing else is written.
  bool writes_lines_on_conditions() const;

 private:
  void add(const TemplatePiece& piece, const TemplatePiece* before, const TemplatePiece* behind, int& depth);

  std::string text_;
  std::vector<std::string> always_;  // outputs outside of conditions
  std::vector<std::string> texts_;   // between statements, as far as it is written
  std::size_t outputs_ = 0;
};

}  // namespace tilewise::runtime
