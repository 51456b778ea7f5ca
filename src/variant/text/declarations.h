// Declarations of tables and parameters in a text.
#pragma once

#include "variant/text/lexer.h"
#include "variant/text/scope.h"

namespace tilewise::variant {

/// Reads what follows `table`: `bias: float32[?, ?] in [-1, 1]`, or with its values, which make it frozen:
/// `slopes: float32[4] = [0.5, 0.25, 0.125, 0.0625]` (row-major).
void parse_table(Lexer& lexer, Scope& scope);

/// Reads what follows `param`: `cap: real in [0, 100]`, `n: int`.
void parse_parameter(Lexer& lexer, Scope& scope);

}  // namespace tilewise::variant
