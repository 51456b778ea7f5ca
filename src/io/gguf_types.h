// GGUF's numbers for storage types, for its reader.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "io/storage.h"

namespace tilewise::io {

/// nullopt for numbers that are unknown, or known to be a storage that is not supported.
std::optional<Storage> storage_of_gguf(std::uint32_t number);

/// "Q4_1", also of those not supported; "number 99" for unknown ones.
std::string gguf_name(std::uint32_t number);

/// Those supported, for messages.
std::string gguf_supported();

}  // namespace tilewise::io
