// Compiles each program once: what is in memory or on disk is not compiled again.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "jit/disk_cache.h"
#include "jit/key.h"
#include "jit/program.h"

namespace tilewise::jit {

/// What turns programs into binaries. Both functions are called from any thread, and throw Error.
struct Backend {
  std::function<std::string()> identity;  // "nvrtc-13.0"
  std::function<Binary(const Program&)> compile;

  /// NVRTC, opened when first needed.
  static Backend nvrtc();
};

/// Shared by any number of threads.
class Compiler {
 public:
  /// How often each way was taken.
  struct Counts {
    std::int64_t from_memory = 0;
    std::int64_t from_disk = 0;
    std::int64_t compiled = 0;  // failures included
    std::int64_t not_kept = 0;  // of these, compiled and not on disk: take_cache_problem() tells why
  };

  Compiler(Backend backend, DiskCacheOptions disk);
  ~Compiler();

  /// The process's compiler: NVRTC, with the folders that the environment named when it was first asked for.
  static Compiler& instance();

  /// The program's binary: from memory, else from disk, else compiled and kept in both. When several threads ask for
  /// one program at once, one compiles and the others wait. A failure reaches all of them and is not kept. Throws
  /// CompileError, Error(device), and Error(invalid_argument) as validate() and headers_used().
  std::shared_ptr<const Binary> get(const Program& program);

  /// As get, but compiled now, past memory and disk, and kept in their place: for a binary that the driver does not
  /// load, as when a cache was filled by a newer compiler than the driver knows.
  std::shared_ptr<const Binary> rebuild(const Program& program);

  /// The name of what compiles here; throws Error(device) where it is missing.
  std::string identity() const { return backend_.identity(); }

  Counts counts() const;

  /// What last kept the cache on disk from working; "" when nothing did since the last call.
  std::string take_cache_problem() { return disk_.take_problem(); }

 private:
  struct Slot;

  std::shared_ptr<const Binary> fetch(const Program& program, bool rebuild);
  std::shared_ptr<const Binary> produce(const Key& key, const Program& program, bool rebuild);
  void count(std::int64_t Counts::*way);

  Backend backend_;
  DiskCache disk_;
  mutable std::mutex mutex_;
  std::map<Key, std::shared_ptr<Slot>> slots_;
  Counts counts_;
};

}  // namespace tilewise::jit
