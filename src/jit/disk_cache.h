// Compiled programs on disk: one folder that is written, and any number that are only read.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "jit/files.h"
#include "jit/key.h"
#include "jit/program.h"

namespace tilewise::jit {

/// Where entries are kept.
struct DiskCacheOptions {
  std::string folder;                    // read and written; "" for none
  std::vector<std::string> shipped;      // read only, searched after `folder`, in order
  std::int64_t limit_bytes = 1LL << 30;  // of `folder`: beyond it, the entries used longest ago go (1 GiB is about
                                         // 10,000 kernels of 100 kB)
  WriteCalls calls = WriteCalls::system();

  /// TILEWISE_CACHE_DIR (default $XDG_CACHE_HOME/tilewise, else $HOME/.cache/tilewise, else none) and the
  /// colon-separated folders of TILEWISE_CACHE_PATH. Empty variables count as unset.
  static DiskCacheOptions from_environment();
};

/// An entry is the file <folder>/<two digits of the key>/<key>-<compiler>.kernel, which carries a checksum and appears
/// by renaming, so any number of processes and threads can share a folder. Nothing here throws on what the disk does: a
/// folder that cannot be read or written only loses the cache, and take_problem() says so.
class DiskCache {
 public:
  explicit DiskCache(DiskCacheOptions options) : options_(std::move(options)) {}

  /// The entry for the key from the first folder that has one, whichever compiler made it. Where one folder has those
  /// of several compilers, the one of `own_compiler` comes first, then the later name; own_compiler is only called
  /// then, since asking NVRTC its version means opening it, which takes longer (0.1 s) than all the rest.
  std::optional<Binary> find(const Key& key, const std::function<std::string()>& own_compiler);

  /// Puts the binary into the folder, then evicts what was used longest ago until the limit holds (never this entry).
  /// Whether it is there now.
  bool store(const Key& key, const Binary& binary);

  /// What last kept the cache from working, in words; "" when nothing did since the last call.
  std::string take_problem();

 private:
  std::optional<Binary> find_in(const std::string& folder, const Key& key,
                                const std::function<std::string()>& own_compiler);
  void report(const std::string& problem);

  DiskCacheOptions options_;
  std::mutex mutex_;
  std::string problem_;
};

/// Removes from a cache folder the entries used longest ago until all its entries are at most limit_bytes, but not
/// `keep` (a path); and temporary files older than an hour, which only a killed writer leaves. Touches nothing that is
/// not named as the cache names its files.
void evict(const std::string& folder, std::int64_t limit_bytes, const std::string& keep);

}  // namespace tilewise::jit
