#include "jit/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include <fmt/format.h>

namespace tilewise::jit {
namespace {

namespace fs = std::filesystem;

std::string failed(const char* doing, const std::string& path, int error) {
  return fmt::format("{} {}: {}", doing, path, std::generic_category().message(error));
}

}  // namespace

std::string publish_file(const std::string& path, const std::string& bytes, const WriteCalls& calls) {
  const std::string folder = fs::path(path).parent_path().string();
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return failed("making the folder", folder, error.value());

  PendingFile file(path, calls);
  std::string problem = file.open();
  if (problem.empty()) problem = file.write(bytes);
  if (problem.empty()) problem = file.commit();
  return problem;
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
