// Files that vanish with the test, and bytes put together by hand.
#pragma once

#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

#include "tests/temporary_folder.h"

namespace tilewise::io {

/// A fresh folder, and files in it.
class TemporaryFolder : public tilewise::TemporaryFolder {
 public:
  /// Writes a file and returns its path.
  std::string put(const std::string& name, std::string_view bytes) const {
    std::ofstream(*this / name, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return *this / name;
  }
};

inline std::string bytes_of_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

/// Bytes of a file, value by value, so that tests say what is in it without the code under test.
class Bytes {
 public:
  template <class T>
  Bytes& add(T value) {
    char raw[sizeof(T)];
    std::memcpy(raw, &value, sizeof(T));
    bytes_.append(raw, sizeof(T));
    return *this;
  }
  Bytes& u32(std::uint32_t value) { return add(value); }
  Bytes& u64(std::uint64_t value) { return add(value); }
  Bytes& raw(std::string_view value) {
    bytes_ += value;
    return *this;
  }
  Bytes& text(std::string_view value) { return u64(value.size()).raw(value); }
  Bytes& pad(std::size_t alignment) {
    bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment);
    return *this;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

}  // namespace tilewise::io
