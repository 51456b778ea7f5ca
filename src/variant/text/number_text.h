// Numbers as the textual form writes them: the shortest text that reads back to the same bits.
#pragma once

#include <cstddef>
#include <string>

#include "variant/graph.h"

namespace tilewise::variant {

/// Of a node's value: "5" for an int, "5.0" for a real, "true" for a bool.
std::string number_text(Type type, double value);

/// Where a real is expected and an int would be promoted: "5", "0.5", "-inf".
std::string bound_text(double value);

/// Of a table's element, for its dtype: 0.1 for the float32 nearest to it.
std::string element_text(DType dtype, const std::byte* element);

/// Whether a real is written without a point: it is an int32 other than -0.
bool is_int32(double value);

}  // namespace tilewise::variant
