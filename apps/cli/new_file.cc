#include "new_file.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "tilewise/error.h"

namespace tilewise::cli {

NewFile::NewFile(std::string path)
    : path_(std::move(path)), temporary_(path_ + ".part"), file_(std::fopen(temporary_.c_str(), "wb")) {
  if (file_ == nullptr) fail("could not be opened");
}

NewFile::~NewFile() {
  if (file_ == nullptr) return;
  std::fclose(file_);
  std::remove(temporary_.c_str());
}

void NewFile::publish() {
  const bool written = std::ferror(file_) == 0 && std::fflush(file_) == 0;
  if (!written) fail("could not be written");
  if (std::fclose(std::exchange(file_, nullptr)) != 0 || std::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int reason = errno;
    std::remove(temporary_.c_str());
    errno = reason;
    fail("could not be written");
  }
}

void NewFile::fail(const char* what) const {
  throw Error(ErrorCode::io, fmt::format("{}: {} ({})", path_, what, std::strerror(errno)));
}

void expect_picture_path(const std::string& path) {
  const std::string extension = extension_of(path);
  if (extension != ".png" && extension != ".svg") {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("--plot {}: the name ends in '{}', expected .png or .svg", path, extension));
  }
  const NewFile probe(path);  // goes away again
}

std::string extension_of(const std::string& path) { return std::filesystem::path(path).extension().string(); }

}  // namespace tilewise::cli
