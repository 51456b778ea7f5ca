// Whole files, read and written so that a reader never sees half of one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/pending_file.h"

namespace tilewise::jit {

/// Puts the bytes at `path`: into a temporary file beside it, synced, then renamed over it. Makes the folder if need
/// be. Returns "" or, with nothing left behind, what failed: "writing /a/b.tmp-1-2: No space left on device".
std::string publish_file(const std::string& path, const std::string& bytes, const WriteCalls& calls);

/// The file's bytes; nullopt where there is none, or, then with `problem` set, where it cannot be read.
std::optional<std::string> read_file(const std::string& path, std::string& problem);

/// A file in a folder.
struct FoundFile {
  std::string path;
  std::int64_t bytes = 0;
  std::int64_t used_ns = 0;  // when last modified, nanoseconds since 1970
};

/// The plain files in a folder, sorted by path, subfolders left out. An unreadable folder holds none.
std::vector<FoundFile> list_files(const std::string& folder);

/// Sets the file's time of modification to now; where that is not allowed, nothing happens.
void touch(const std::string& path);

}  // namespace tilewise::jit
