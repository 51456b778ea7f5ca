// GGUF: a model's settings and tensors in one file (ggml's documentation of GGUF, versions 2 and 3).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "io/mapped_file.h"
#include "io/storage.h"

namespace tilewise::io {

/// Types of metadata, by GGUF's own numbers.
enum class GgufType : std::uint32_t {
  uint8,
  int8,
  uint16,
  int16,
  uint32,
  int32,
  float32,
  boolean,
  string,
  array,
  uint64,
  int64,
  float64,
};

/// "uint32", "string": for messages.
const char* to_string(GgufType type);

/// Bytes of a number or bool; 0 for strings and arrays.
std::int64_t size_of(GgufType type);

/// An array of numbers or bools as they lie in the file (unaligned), or of strings. Views.
struct GgufArray {
  GgufType type = GgufType::uint8;
  std::uint64_t count = 0;
  std::span<const std::byte> numbers{};     // count elements of size_of(type) bytes
  std::vector<std::string_view> strings{};  // [count] where type is string
};

/// A setting. Integers of every width are held as 64 bits; views into memory that the value does not own.
struct GgufValue {
  GgufType type = GgufType::uint32;
  std::variant<std::uint64_t, std::int64_t, double, bool, std::string_view, GgufArray> value{};

  static GgufValue of_uint32(std::uint32_t value) { return {GgufType::uint32, std::uint64_t{value}}; }
  static GgufValue of_float32(float value) { return {GgufType::float32, double{value}}; }
  static GgufValue of_bool(bool value) { return {GgufType::boolean, value}; }
  static GgufValue of_string(std::string_view value) { return {GgufType::string, value}; }
  static GgufValue of_strings(std::vector<std::string_view> values);
  static GgufValue of_floats(std::span<const float> values);         // [n], must outlive the value
  static GgufValue of_int32s(std::span<const std::int32_t> values);  // [n], likewise
};

using GgufMetadata = std::vector<std::pair<std::string_view, GgufValue>>;

/// GGUF's number for a storage; nullopt where it has none.
std::optional<std::uint32_t> gguf_number(Storage storage);

inline constexpr std::uint32_t kGgufVersion = 3;            ///< What is written; 2 is read too.
inline constexpr std::uint64_t kGgufDefaultAlignment = 32;  ///< Bytes.
inline constexpr std::string_view kGgufAlignmentKey = "general.alignment";

/// A GGUF file, mapped. Everything but the elements of tensors is checked when it is opened: every length, count,
/// offset and type lies within the file, names are unique, tensors are aligned and do not overlap.
class GgufFile {
 public:
  /// Throws Error(io) where the file cannot be read, Error(parse) naming path, offset and name where it is malformed,
  /// and Error(unsupported) on another version, byte order or storage type.
  explicit GgufFile(std::string path);

  const std::string& path() const { return file_.path(); }
  std::uint32_t version() const { return version_; }
  std::uint64_t alignment() const { return alignment_; }
  std::uint64_t bytes() const { return file_.bytes().size(); }
  const GgufMetadata& metadata() const { return metadata_; }
  const std::vector<FileTensor>& tensors() const { return tensors_; }

  bool has(std::string_view key) const { return keys_.contains(key); }

  /// Settings by key. Each throws Error(parse) naming path and key where it is missing or of another type; an integer
  /// also where it lies outside of [least, most], a real where it is not finite.
  std::int64_t integer(std::string_view key, std::int64_t least, std::int64_t most) const;
  double real(std::string_view key) const;
  bool boolean(std::string_view key) const;
  std::string_view string(std::string_view key) const;
  const std::vector<std::string_view>& strings(std::string_view key) const;
  std::vector<std::int64_t> integers(std::string_view key) const;
  std::vector<double> reals(std::string_view key) const;  // finite

  /// As above, or `otherwise` where the key is missing.
  std::int64_t integer_or(std::string_view key, std::int64_t least, std::int64_t most, std::int64_t otherwise) const;
  double real_or(std::string_view key, double otherwise) const;
  bool boolean_or(std::string_view key, bool otherwise) const;

  /// Null where there is none of that name.
  const FileTensor* find_tensor(std::string_view name) const;

  /// Throws Error(parse) where there is none, naming path and tensor.
  const FileTensor& tensor(std::string_view name) const;

 private:
  const GgufValue& value(std::string_view key) const;
  [[noreturn]] void fail_type(std::string_view key, GgufType type, std::string_view expected) const;

  MappedFile file_;
  std::uint32_t version_ = 0;
  std::uint64_t alignment_ = kGgufDefaultAlignment;
  GgufMetadata metadata_;
  std::vector<FileTensor> tensors_;
  std::unordered_map<std::string_view, std::size_t> keys_, names_;
};

}  // namespace tilewise::io
