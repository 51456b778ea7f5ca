// Reading the textual form. docs/textual_form.md has the grammar.
#pragma once

#include <span>
#include <string_view>

#include "tilewise/variant.h"
#include "tilewise/zoo_entry.h"

namespace tilewise::variant {

/// parse_variant() with the named variants that may be called.
Variant parse(std::string_view text, std::span<const zoo::Entry> zoo);

}  // namespace tilewise::variant
