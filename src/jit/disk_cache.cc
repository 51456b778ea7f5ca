#include "jit/disk_cache.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "jit/entry.h"

namespace tilewise::jit {
namespace {

constexpr std::string_view kSuffix = ".kernel";
constexpr std::size_t kKeyDigits = 32;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string default_folder() {
  std::string chosen = environment("TILEWISE_CACHE_DIR");
  if (!chosen.empty()) return chosen;
  // A relative XDG_CACHE_HOME is to be ignored (XDG Base Directory Specification 0.8).
  const std::string cache_home = environment("XDG_CACHE_HOME");
  if (!cache_home.empty() && cache_home[0] == '/') return cache_home + "/tilewise";
  const std::string home = environment("HOME");
  return home.empty() ? "" : home + "/.cache/tilewise";
}

// Entries lie in 256 subfolders by their first two digits, so that looking one up lists a few dozen names.
std::string subfolder(const std::string& folder, const std::string& digits) {
  return folder + "/" + digits.substr(0, 2);
}

std::string file_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

bool is_entry_name(const std::string& name) {
  return name.size() > kKeyDigits + kSuffix.size() && name.ends_with(kSuffix) && name[kKeyDigits] == '-' &&
         name.find_first_not_of("0123456789abcdef") == kKeyDigits;
}

bool is_temporary_name(const std::string& name) {
  const std::size_t mark = name.find(kTemporaryMark);
  return mark != std::string::npos && is_entry_name(name.substr(0, mark));
}

std::string entry_name(const std::string& digits, const std::string& compiler) {
  return digits + "-" + compiler + std::string(kSuffix);
}

// The files that hold this key's entries in a folder, the later name first.
std::vector<std::string> entries_of(const std::string& folder, const std::string& digits) {
  std::vector<std::string> paths;
  for (const FoundFile& file : list_files(subfolder(folder, digits))) {
    const std::string name = file_name(file.path);
    if (name.rfind(digits + "-", 0) == 0 && is_entry_name(name)) paths.push_back(file.path);
  }
  std::reverse(paths.begin(), paths.end());
  return paths;
}

}  // namespace

DiskCacheOptions DiskCacheOptions::from_environment() {
  DiskCacheOptions options;
  options.folder = default_folder();
  std::string rest = environment("TILEWISE_CACHE_PATH");
  while (!rest.empty()) {
    const std::size_t colon = rest.find(':');
    if (colon != 0) options.shipped.push_back(rest.substr(0, colon));
    rest = colon == std::string::npos ? "" : rest.substr(colon + 1);
  }
  return options;
}

std::optional<Binary> DiskCache::find_in(const std::string& folder, const Key& key,
                                         const std::function<std::string()>& own_compiler) {
  const std::string digits = key.hex();
  std::vector<std::string> paths = entries_of(folder, digits);
  if (paths.size() > 1) {
    const std::string own = entry_name(digits, own_compiler());
    std::stable_partition(paths.begin(), paths.end(), [&](const std::string& path) { return file_name(path) == own; });
  }
  for (const std::string& path : paths) {
    std::string problem;
    const std::optional<std::string> bytes = read_file(path, problem);
    if (!problem.empty()) report(fmt::format("a cache entry is left out: {}", problem));
    if (!bytes) continue;  // without a problem, it was evicted since it was listed
    DecodedEntry entry = decode_entry(key, *bytes);
    if (entry.binary) {
      if (folder == options_.folder) touch(path);
      return std::move(entry.binary);
    }
    report(fmt::format("cache entry {} is left out: {}", path, entry.problem));
    if (folder == options_.folder) unlink(path.c_str());
  }
  return std::nullopt;
}

std::optional<Binary> DiskCache::find(const Key& key, const std::function<std::string()>& own_compiler) {
  std::vector<std::string> folders = options_.shipped;
  if (!options_.folder.empty()) folders.insert(folders.begin(), options_.folder);
  for (const std::string& folder : folders) {
    if (std::optional<Binary> binary = find_in(folder, key, own_compiler)) return binary;
  }
  return std::nullopt;
}

bool DiskCache::store(const Key& key, const Binary& binary) {
  if (options_.folder.empty()) {
    report("compiled kernels are not kept: none of TILEWISE_CACHE_DIR, XDG_CACHE_HOME and HOME names a folder");
    return false;
  }
  const std::string digits = key.hex();
  const std::string path = subfolder(options_.folder, digits) + "/" + entry_name(digits, binary.compiler);
  const std::string problem = publish_file(path, encode_entry(key, binary), options_.calls);
  if (!problem.empty()) {
    report(fmt::format("compiled kernels are not kept in {}: {}", options_.folder, problem));
    return false;
  }
  evict(options_.folder, options_.limit_bytes, path);
  return true;
}

void DiskCache::report(const std::string& problem) {
  const std::lock_guard<std::mutex> lock(mutex_);
  problem_ = problem;
}

std::string DiskCache::take_problem() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return std::exchange(problem_, "");
}

void evict(const std::string& folder, std::int64_t limit_bytes, const std::string& keep) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const std::int64_t an_hour_ago = std::chrono::nanoseconds(now - std::chrono::hours(1)).count();
  std::vector<FoundFile> entries;
  std::int64_t total = 0;
  for (int shard = 0; shard < 256; ++shard) {
    for (FoundFile& file : list_files(subfolder(folder, fmt::format("{:02x}", shard)))) {
      const std::string name = file_name(file.path);
      if (is_temporary_name(name) && file.used_ns < an_hour_ago) unlink(file.path.c_str());
      if (!is_entry_name(name)) continue;
      total += file.bytes;
      if (file.path != keep) entries.push_back(std::move(file));
    }
  }
  std::stable_sort(entries.begin(), entries.end(),
                   [](const FoundFile& a, const FoundFile& b) { return a.used_ns < b.used_ns; });
  for (const FoundFile& entry : entries) {
    if (total <= limit_bytes) break;
    // Gone already is as good: another process evicts the same entries.
    unlink(entry.path.c_str());
    total -= entry.bytes;
  }
}

}  // namespace tilewise::jit
