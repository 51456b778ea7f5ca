// A file that appears whole or not at all: written without a name, synced, named beside its place, then renamed over
// it. On file systems without such files (O_TMPFILE: most have them, NFS has not) it has its temporary name from the
// start.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>
#include <string_view>

namespace tilewise {

/// The system calls that write, to be replaced by tests that make them fail.
struct WriteCalls {
  ssize_t (*write)(int file, const void* bytes, std::size_t size);
  int (*fsync)(int file);
  int (*rename)(const char* from, const char* to);

  static WriteCalls system();
};

/// Temporary files have this in their names, so that what a killed writer leaves, where it leaves anything, can be
/// told.
inline constexpr const char* kTemporaryMark = ".tmp-";

/// Each step returns "" or what failed: "writing /a/b.tmp-1-2: No space left on device". After a failure, and where
/// commit() was never called, nothing is left behind.
class PendingFile {
 public:
  PendingFile(std::string path, const WriteCalls& calls);
  ~PendingFile();
  PendingFile(const PendingFile&) = delete;
  PendingFile& operator=(const PendingFile&) = delete;

  /// Creates the temporary file in the folder of `path`.
  std::string open();

  /// Appends all of the bytes.
  std::string write(std::string_view bytes);

  /// Syncs, closes, and renames over `path`.
  std::string commit();

 private:
  /// Removes the temporary file and tells what failed.
  std::string give_up(const char* doing, int error);

  std::string path_, temporary_;
  WriteCalls calls_;
  int file_ = -1;
  bool is_nameless_ = false;
};

}  // namespace tilewise
