// Files that appear under their name only when they are whole.
#pragma once

#include <cstdio>
#include <string>

namespace tilewise::cli {

/// Written beside its place, and moved there by publish(). Without that, nothing stays.
class NewFile {
 public:
  /// Throws Error(io) where it cannot be opened.
  explicit NewFile(std::string path);
  ~NewFile();
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  std::FILE* file() { return file_; }

  /// Throws Error(io) where anything could not be written.
  void publish();

 private:
  [[noreturn]] void fail(const char* what) const;

  std::string path_, temporary_;
  std::FILE* file_;
};

/// Checks the name of a picture before there is anything to draw: throws Error(invalid_argument) unless `path` ends in
/// .png or .svg, and Error(io) where no file can be made there.
void expect_picture_path(const std::string& path);

/// ".png" or ".svg".
std::string extension_of(const std::string& path);

}  // namespace tilewise::cli
