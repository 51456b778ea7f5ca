#include "io/gguf_writer.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <string_view>

#include "core/fail.h"
#include "io/cursor.h"

namespace tilewise::io {
namespace {

constexpr std::size_t kMostAxes = 4;
constexpr std::int64_t kChunkBytes = std::int64_t{4} << 20;

std::uint64_t aligned(std::uint64_t bytes) {
  return (bytes + kGgufDefaultAlignment - 1) / kGgufDefaultAlignment * kGgufDefaultAlignment;
}

/// Appends values as they lie in the file.
class Header {
 public:
  template <class T>
  void number(T value) {
    char bytes[sizeof(T)];
    std::memcpy(bytes, &value, sizeof(T));
    bytes_.append(bytes, sizeof(T));
  }
  void text(std::string_view value) {
    number<std::uint64_t>(value.size());
    bytes_ += value;
  }
  void setting(const GgufValue& value) {
    number(static_cast<std::uint32_t>(value.type));
    std::visit([&](const auto& held) { held_value(value.type, held); }, value.value);
  }
  void pad() { bytes_.resize(aligned(bytes_.size())); }
  const std::string& bytes() const { return bytes_; }

 private:
  // The low bytes of a 64-bit integer are the narrower integer.
  void held_value(GgufType type, std::uint64_t value) {
    bytes_.append(reinterpret_cast<const char*>(&value), static_cast<std::size_t>(size_of(type)));
  }
  void held_value(GgufType type, std::int64_t value) { held_value(type, static_cast<std::uint64_t>(value)); }
  void held_value(GgufType type, double value) {
    if (type == GgufType::float32) return number(static_cast<float>(value));
    number(value);
  }
  void held_value(GgufType, bool value) { number<std::uint8_t>(value ? 1 : 0); }
  void held_value(GgufType, std::string_view value) { text(value); }
  void held_value(GgufType, const GgufArray& array) {
    number(static_cast<std::uint32_t>(array.type));
    number(array.count);
    bytes_.append(reinterpret_cast<const char*>(array.numbers.data()), array.numbers.size());
    for (const std::string_view string : array.strings) text(string);
  }

  std::string bytes_;
};

std::int64_t columns(const GgufTensorSource& tensor) { return tensor.shape.empty() ? 1 : tensor.shape.back(); }

/// Bytes that a tensor takes, once all about it is known to be writable.
std::int64_t checked_bytes(const GgufTensorSource& tensor) {
  const std::string name = printable(tensor.name);
  if (!gguf_number(tensor.storage)) {
    fail_argument("tensor '{}' is stored as {}, for which GGUF has no type", name, info(tensor.storage).name);
  }
  if (tensor.shape.size() > kMostAxes)
    fail_argument("tensor '{}' has {} axes; GGUF has at most 4", name, tensor.shape.size());
  const auto elements = product(tensor.shape);
  const auto bytes = elements ? bytes_of(tensor.storage, *elements) : std::nullopt;
  if (!bytes || columns(tensor) % info(tensor.storage).block_elements != 0) {
    fail_argument("tensor '{}' [{}] of type {}: expected extents of at least 0, rows of whole blocks of {} elements",
                  name, fmt::join(tensor.shape, ", "), info(tensor.storage).name, info(tensor.storage).block_elements);
  }
  return *bytes;
}

void expect_new(std::set<std::string_view>& seen, std::string_view name, const char* what) {
  if (name.empty()) fail_argument("a {} has no name", what);
  if (!seen.insert(name).second) fail_argument("{} '{}' appears twice", what, printable(name));
}

Header header_of(const GgufMetadata& metadata, const std::vector<GgufTensorSource>& tensors) {
  std::set<std::string_view> keys, names;
  const auto kept = static_cast<std::uint64_t>(std::count_if(
      metadata.begin(), metadata.end(), [](const auto& setting) { return setting.first != kGgufAlignmentKey; }));
  Header header;
  for (const char letter : {'G', 'G', 'U', 'F'}) header.number(letter);
  header.number(kGgufVersion);
  header.number<std::uint64_t>(tensors.size());
  header.number(kept);
  for (const auto& [key, value] : metadata) {
    if (key == kGgufAlignmentKey) continue;
    expect_new(keys, key, "setting");
    header.text(key);
    header.setting(value);
  }
  std::uint64_t offset = 0;
  for (const GgufTensorSource& tensor : tensors) {
    expect_new(names, tensor.name, "tensor");
    const std::int64_t bytes = checked_bytes(tensor);
    header.text(tensor.name);
    header.number(static_cast<std::uint32_t>(tensor.shape.size()));
    for (auto extent = tensor.shape.rbegin(); extent != tensor.shape.rend(); ++extent) header.number(*extent);
    header.number(*gguf_number(tensor.storage));
    header.number(offset);
    offset = aligned(offset + static_cast<std::uint64_t>(bytes));
  }
  header.pad();
  return header;
}

void expect_written(const std::string& path, const std::string& problem) {
  if (!problem.empty()) fail(ErrorCode::io, "{}: {}", path, problem);
}

void write_tensor(PendingFile& file, const std::string& path, const GgufTensorSource& tensor) {
  const std::int64_t bytes = checked_bytes(tensor);
  if (bytes > 0) {
    const std::int64_t row_bytes = *bytes_of(tensor.storage, columns(tensor));
    const std::int64_t rows = bytes / row_bytes, rows_at_once = std::max<std::int64_t>(1, kChunkBytes / row_bytes);
    std::vector<std::byte> chunk;
    for (std::int64_t first = 0; first < rows; first += rows_at_once) {
      chunk.resize(static_cast<std::size_t>(std::min(rows_at_once, rows - first) * row_bytes));
      tensor.fill(first, chunk);
      expect_written(path, file.write({reinterpret_cast<const char*>(chunk.data()), chunk.size()}));
    }
  }
  const auto written = static_cast<std::uint64_t>(bytes);
  expect_written(path, file.write(std::string(aligned(written) - written, '\0')));
}

}  // namespace

GgufTensorSource copy_of(const FileTensor& tensor) {
  GgufTensorSource source{std::string(tensor.name), tensor.storage, tensor.shape};
  const std::int64_t row_bytes = *bytes_of(tensor.storage, tensor.columns());
  source.fill = [bytes = tensor.bytes, row_bytes](std::int64_t first, std::span<std::byte> out) {
    std::memcpy(out.data(), bytes.data() + first * row_bytes, out.size());
  };
  return source;
}

void write_gguf(const std::string& path, const GgufMetadata& metadata, const std::vector<GgufTensorSource>& tensors,
                const WriteCalls& calls) {
  const Header header = header_of(metadata, tensors);
  PendingFile file(path, calls);
  expect_written(path, file.open());
  expect_written(path, file.write(header.bytes()));
  for (const GgufTensorSource& tensor : tensors) write_tensor(file, path, tensor);
  expect_written(path, file.commit());
}

}  // namespace tilewise::io
