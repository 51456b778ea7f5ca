#include "io/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "core/fail.h"

namespace tilewise::io {
namespace {

[[noreturn]] void fail_system(const std::string& path, const char* doing, int error) {
  fail(ErrorCode::io, "{}: {}: {}", path, doing, std::generic_category().message(error));
}

/// The file's bytes; `handle` stays open.
std::span<const std::byte> map(const std::string& path, int handle) {
  struct stat status {};
  if (fstat(handle, &status) != 0) fail_system(path, "asking for its size", errno);
  if (!S_ISREG(status.st_mode)) fail(ErrorCode::io, "{}: not a regular file; expected a model or tokenizer file", path);
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size == 0) return {};
  void* memory = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, handle, 0);
  if (memory == MAP_FAILED) fail_system(path, "mapping it", errno);
  return {static_cast<const std::byte*>(memory), size};
}

}  // namespace

MappedFile::MappedFile(std::string path) : path_(std::move(path)) {
  // Without O_NONBLOCK, opening a named pipe would wait for a writer.
  const int handle = open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (handle < 0) fail_system(path_, "opening it", errno);
  try {
    bytes_ = map(path_, handle);
  } catch (...) {
    close(handle);
    throw;
  }
  close(handle);
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

}  // namespace tilewise::io
