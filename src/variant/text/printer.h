// Writing the textual form. docs/textual_form.md has the grammar.
#pragma once

#include <string>

#include "variant/graph.h"

namespace tilewise::variant {

/// One expression of a graph, for messages and explanations: "let a = query - key; a * a". Tables and parameters go by
/// their own names.
std::string expression_text(const Graph& graph, NodeId root);

}  // namespace tilewise::variant
