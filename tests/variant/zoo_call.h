// A call of a named variant in the textual form.
#pragma once

#include <string>

#include "tilewise/variant.h"

namespace tilewise {

/// The variant of a call such as "window(3)" or "documents([3, 4])", with defaults filled in. Throws Error as the
/// variant does, and std::logic_error where the text is no such call.
Variant variant_of_call(const std::string& call);

/// "window" of "window(3)".
std::string name_of_call(const std::string& call);

}  // namespace tilewise
