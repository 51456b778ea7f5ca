#include "jit/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include <fmt/format.h>

namespace tilewise::jit {
namespace {

namespace fs = std::filesystem;

std::string failed(const char* doing, const std::string& path, int error) {
  return fmt::format("{} {}: {}", doing, path, std::generic_category().message(error));
}

// A name beside `path` that no other process or thread uses: the process and a count, and the clock for the case that
// an earlier process of the same number left a file behind.
std::string temporary_beside(const std::string& path) {
  static std::atomic<unsigned> count = 0;
  const auto clock = std::chrono::steady_clock::now().time_since_epoch().count();
  return fmt::format("{}{}{}-{}-{:x}", path, kTemporaryMark, getpid(), count++, clock);
}

// Writes all bytes; returns 0 or the error.
int write_all(int file, const std::string& bytes, const WriteCalls& calls) {
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t written = calls.write(file, bytes.data() + done, bytes.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return written < 0 ? errno : ENOSPC;
    done += static_cast<std::size_t>(written);
  }
  return 0;
}

// Syncs the folder, so that the new name survives a power cut. Best effort: the entry is whole either way.
void sync_folder(const std::string& folder, const WriteCalls& calls) {
  const int handle = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (handle < 0) return;
  calls.fsync(handle);
  close(handle);
}

}  // namespace

WriteCalls WriteCalls::system() { return {::write, ::fsync, ::rename}; }

std::string publish_file(const std::string& path, const std::string& bytes, const WriteCalls& calls) {
  const std::string folder = fs::path(path).parent_path().string();
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return failed("making the folder", folder, error.value());

  const std::string temporary = temporary_beside(path);
  // 0666 less the umask, so that a folder of entries can be shipped and shared.
  const int file = open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (file < 0) return failed("creating", temporary, errno);
  const char* doing = "writing";
  int status = write_all(file, bytes, calls);
  if (status == 0 && calls.fsync(file) != 0) doing = "syncing", status = errno;
  if (close(file) != 0 && status == 0) doing = "closing", status = errno;
  if (status == 0 && calls.rename(temporary.c_str(), path.c_str()) != 0) doing = "renaming", status = errno;
  if (status != 0) {
    unlink(temporary.c_str());
    return failed(doing, temporary, status);
  }
  sync_folder(folder, calls);
  return "";
}

std::optional<std::string> read_file(const std::string& path, std::string& problem) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) {
    if (errno != ENOENT) problem = failed("opening", path, errno);
    return std::nullopt;
  }
  std::string bytes;
  std::array<char, 1 << 16> block;  // NOLINT(cppcoreguidelines-pro-type-member-init): read() fills it
  ssize_t size = 0;
  do {
    size = read(file, block.data(), block.size());
    if (size > 0) bytes.append(block.data(), static_cast<std::size_t>(size));
  } while (size > 0 || (size < 0 && errno == EINTR));
  if (size < 0) problem = failed("reading", path, errno);
  close(file);
  return size < 0 ? std::nullopt : std::optional(std::move(bytes));
}

std::vector<FoundFile> list_files(const std::string& folder) {
  std::vector<FoundFile> files;
  std::error_code error;
  fs::directory_iterator iterator(folder, fs::directory_options::skip_permission_denied, error);
  for (; !error && iterator != fs::directory_iterator(); iterator.increment(error)) {
    // A file may vanish meanwhile, since other processes evict too.
    struct stat status {};
    const std::string path = iterator->path().string();
    if (stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) continue;
    files.push_back({path, status.st_size, status.st_mtim.tv_sec * 1'000'000'000 + status.st_mtim.tv_nsec});
  }
  std::sort(files.begin(), files.end(), [](const auto& a, const auto& b) { return a.path < b.path; });
  return files;
}

void touch(const std::string& path) { utimensat(AT_FDCWD, path.c_str(), nullptr, 0); }

}  // namespace tilewise::jit
