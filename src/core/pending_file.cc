#include "core/pending_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <system_error>
#include <utility>

namespace tilewise {
namespace {

// A name beside `path` that no other process or thread uses: the process and a count, and the clock for the case that
// an earlier process of the same number left a file behind.
std::string temporary_beside(const std::string& path) {
  static std::atomic<unsigned> count = 0;
  const auto clock = std::chrono::steady_clock::now().time_since_epoch().count();
  return fmt::format("{}{}{}-{}-{:x}", path, kTemporaryMark, getpid(), count++, clock);
}

std::string folder_of(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

// A process's open files have names of their own there, by which one without another name can be given one.
std::string own_name(int file) { return fmt::format("/proc/self/fd/{}", file); }

// A file without a name, which vanishes with the process that writes it; -1 where the file system has no such files.
int open_nameless(const std::string& folder) {
  const int file = ::open(folder.c_str(), O_WRONLY | O_TMPFILE | O_CLOEXEC, 0666);
  if (file < 0 || ::access(own_name(file).c_str(), F_OK) == 0) return file;
  ::close(file);
  return -1;
}

// Syncs the folder, so that the new name survives a power cut. Best effort: the file is whole either way.
void sync_folder(const std::string& folder, const WriteCalls& calls) {
  const int handle = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (handle < 0) return;
  calls.fsync(handle);
  ::close(handle);
}

}  // namespace

WriteCalls WriteCalls::system() { return {::write, ::fsync, ::rename}; }

PendingFile::PendingFile(std::string path, const WriteCalls& calls)
    : path_(std::move(path)), temporary_(temporary_beside(path_)), calls_(calls) {}

PendingFile::~PendingFile() {
  if (file_ >= 0) give_up("", 0);
}

std::string PendingFile::give_up(const char* doing, int error) {
  if (file_ >= 0) ::close(std::exchange(file_, -1));
  ::unlink(temporary_.c_str());
  return fmt::format("{} {}: {}", doing, temporary_, std::generic_category().message(error));
}

std::string PendingFile::open() {
  // 0666 less the umask, as any program's files.
  file_ = open_nameless(folder_of(path_));
  is_nameless_ = file_ >= 0;
  if (is_nameless_) return "";
  file_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (file_ >= 0) return "";
  return fmt::format("creating {}: {}", temporary_, std::generic_category().message(errno));
}

std::string PendingFile::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = calls_.write(file_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return give_up("writing", written < 0 ? errno : ENOSPC);
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return "";
}

std::string PendingFile::commit() {
  if (calls_.fsync(file_) != 0) return give_up("syncing", errno);
  if (is_nameless_ &&
      ::linkat(AT_FDCWD, own_name(file_).c_str(), AT_FDCWD, temporary_.c_str(), AT_SYMLINK_FOLLOW) != 0) {
    return give_up("naming", errno);
  }
  if (::close(std::exchange(file_, -1)) != 0) return give_up("closing", errno);
  if (calls_.rename(temporary_.c_str(), path_.c_str()) != 0) return give_up("renaming", errno);
  sync_folder(folder_of(path_), calls_);
  return "";
}

}  // namespace tilewise
