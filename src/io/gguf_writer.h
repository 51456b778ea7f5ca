// Writing GGUF files, version 3.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "core/pending_file.h"
#include "io/gguf.h"

namespace tilewise::io {

/// A tensor to be written, and who supplies its bytes: fill(first, out) puts rows from `first` on, as many as `out`
/// holds. Rows are asked for in order, a few MiB at a time, so that a model need not fit into memory.
struct GgufTensorSource {
  std::string name;
  Storage storage = Storage::float32;
  std::vector<std::int64_t> shape{};  // [rank], the contiguous axis last
  std::function<void(std::int64_t first, std::span<std::byte> out)> fill{};
};

/// A source that copies what a file holds.
GgufTensorSource copy_of(const FileTensor& tensor);

/// Writes a GGUF file of these settings and tensors: whole, or not at all (core/pending_file.h). Its alignment is the
/// default one; a setting of that key is left out.
///
/// Throws Error(invalid_argument) before any work: on a key or tensor that appears twice or has no name, on more than
/// four axes, on rows that are no whole number of blocks, on a storage that GGUF lacks. Throws Error(io) naming the
/// file and the system's reason, such as a full disk; then nothing is left behind, and what was at `path` stands.
void write_gguf(const std::string& path, const GgufMetadata& metadata, const std::vector<GgufTensorSource>& tensors,
                const WriteCalls& calls = WriteCalls::system());

}  // namespace tilewise::io
