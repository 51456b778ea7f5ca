// Which of the two formats a model file has: the file itself tells.
#pragma once

#include <string>

namespace tilewise::io {

/// Whether it is GGUF; else it is safetensors by its first bytes. Throws Error(io) where it cannot be read,
/// Error(parse) where it is neither.
bool is_gguf(const std::string& path);

}  // namespace tilewise::io
