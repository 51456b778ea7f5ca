// A whole file as memory, read on demand.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace tilewise::io {

/// Maps a regular file for reading. The file must not shrink while it is mapped: the system answers a read past its new
/// end with SIGBUS. Replacing it by renaming another over it, as the writers here do, is safe.
class MappedFile {
 public:
  /// Throws Error(io) naming the path and the system's reason.
  explicit MappedFile(std::string path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  const std::string& path() const { return path_; }
  std::span<const std::byte> bytes() const { return bytes_; }
  std::string_view text() const { return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()}; }

 private:
  std::string path_;
  std::span<const std::byte> bytes_;
};

}  // namespace tilewise::io
