// A compiled program as bytes on disk.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "jit/key.h"
#include "jit/program.h"

namespace tilewise::jit {

/// The bytes of an entry: magic, format, checksum (XXH3-128 of all that follows), key, binary.
std::string encode_entry(const Key& key, const Binary& binary);

/// What reading an entry gave: the binary, or why there is none.
struct DecodedEntry {
  std::optional<Binary> binary;
  std::string problem;  // "the checksum does not match", where there is no binary
};

/// Reads an entry of that key. The bytes may be anything.
DecodedEntry decode_entry(const Key& key, std::string_view bytes);

}  // namespace tilewise::jit
