// Calls of named variants: window(1024), alibi(heads=8).
#pragma once

#include <span>

#include "tilewise/zoo_entry.h"
#include "variant/text/lexer.h"

namespace tilewise::variant {

/// Reads what follows an entry's name, and makes its variant. The parentheses may be left out where no argument is
/// needed. Arguments are given by place, then by name; those with defaults may be left out.
Variant parse_zoo_call(Lexer& lexer, const Token& name, const zoo::Entry& entry);

}  // namespace tilewise::variant
