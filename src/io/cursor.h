// Reading little-endian values one after the other from bytes that may be anything.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>

#include "core/fail.h"

namespace tilewise::io {

static_assert(std::endian::native == std::endian::little, "model files are little-endian and read in place");

/// Throws Error(code): "<path>, byte <offset>: <message>".
template <class... Args>
[[noreturn]] void fail_at(ErrorCode code, std::string_view path, std::uint64_t offset,
                          fmt::format_string<Args...> message, Args&&... args) {
  fail(code, "{}, byte {}: {}", path, offset, fmt::format(message, std::forward<Args>(args)...));
}

/// A name from a file, fit for a message: at most 64 bytes of it, anything but printable ASCII as '?'.
std::string printable(std::string_view name);

/// Walks over a file's bytes. Every step throws Error(parse) with path and offset where the bytes end too early.
class Cursor {
 public:
  Cursor(std::string_view path, std::span<const std::byte> bytes) : path_(path), bytes_(bytes) {}

  std::uint64_t offset() const { return offset_; }
  std::uint64_t left() const { return bytes_.size() - offset_; }

  /// The next `size` bytes, which hold `what`.
  std::span<const std::byte> take(std::uint64_t size, std::string_view what) {
    if (size > left()) {
      fail_at(ErrorCode::parse, path_, offset_, "{} of {} bytes runs past the end of the file, which has {} bytes left",
              what, size, left());
    }
    const auto taken = bytes_.subspan(offset_, size);
    offset_ += size;
    return taken;
  }

  template <class T>
  T read(std::string_view what) {
    T value;
    std::memcpy(&value, take(sizeof(T), what).data(), sizeof(T));
    return value;
  }

  /// A 64-bit length, then as many bytes.
  std::string_view text(std::string_view what) {
    const auto size = read<std::uint64_t>(what);
    const auto taken = take(size, what);
    return {reinterpret_cast<const char*>(taken.data()), taken.size()};
  }

  template <class... Args>
  [[noreturn]] void fail_here(fmt::format_string<Args...> message, Args&&... args) const {
    fail_at(ErrorCode::parse, path_, offset_, message, std::forward<Args>(args)...);
  }

 private:
  std::string_view path_;
  std::span<const std::byte> bytes_;
  std::uint64_t offset_ = 0;
};

}  // namespace tilewise::io
