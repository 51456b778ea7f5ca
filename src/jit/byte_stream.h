// Values in a fixed byte order (little endian), strings with their length before them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tilewise::jit {

/// Appends values to a string of bytes.
class ByteWriter {
 public:
  void u32(std::uint32_t value) { integer(value, 4); }
  void u64(std::uint64_t value) { integer(value, 8); }
  void text(std::string_view value) {
    u64(value.size());
    bytes_ += value;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void integer(std::uint64_t value, int size) {
    for (int byte = 0; byte < size; ++byte) bytes_ += static_cast<char>(value >> (8 * byte));
  }

  std::string bytes_;
};

/// Reads values back from bytes that may be anything: past the end it gives zeros and empty strings, and ok() is false.
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : rest_(bytes) {}

  std::uint32_t u32() { return static_cast<std::uint32_t>(integer(4)); }
  std::uint64_t u64() { return integer(8); }
  std::string_view text() { return raw(u64()); }

  /// The next `size` bytes.
  std::string_view raw(std::uint64_t size) {
    if (!ok_ || size > rest_.size()) {
      ok_ = false;
      return {};
    }
    const std::string_view value = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return value;
  }

  std::string_view rest() const { return rest_; }
  bool ok() const { return ok_; }

 private:
  std::uint64_t integer(int size) {
    std::uint64_t value = 0;
    const std::string_view bytes = raw(size);
    for (std::size_t byte = 0; byte < bytes.size(); ++byte) {
      value |= static_cast<std::uint64_t>(static_cast<unsigned char>(bytes[byte])) << (8 * byte);
    }
    return value;
  }

  std::string_view rest_;
  bool ok_ = true;
};

}  // namespace tilewise::jit
