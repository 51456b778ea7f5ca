#include "io/gguf.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "io/cursor.h"
#include "io/gguf_types.h"

namespace tilewise::io {
namespace {

constexpr std::uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr std::uint32_t kMostAxes = 4;
constexpr std::uint64_t kMostNameBytes = 65535;
constexpr std::uint64_t kMostAlignment = std::uint64_t{1} << 30;
// The least that an entry takes: a name's length and a type with a byte of value; a name's length, the number of axes,
// the type and the offset. They bound the counts before anything is reserved.
constexpr std::uint64_t kLeastSettingBytes = 8 + 4 + 1;
constexpr std::uint64_t kLeastTensorBytes = 8 + 4 + 4 + 8;
constexpr std::uint64_t kStringLengthBytes = 8;

GgufType read_type(Cursor& cursor, std::string_view key) {
  const auto number = cursor.read<std::uint32_t>("a type");
  if (number > static_cast<std::uint32_t>(GgufType::float64)) {
    cursor.fail_here("'{}' has type number {}; expected 0 to 12", printable(key), number);
  }
  return static_cast<GgufType>(number);
}

bool read_bool(Cursor& cursor, std::string_view key) {
  const auto value = cursor.read<std::uint8_t>("a bool");
  if (value > 1) cursor.fail_here("'{}' is a bool of value {}; expected 0 or 1", printable(key), value);
  return value == 1;
}

GgufArray read_array(Cursor& cursor, std::string_view key) {
  GgufArray array;
  array.type = read_type(cursor, key);
  array.count = cursor.read<std::uint64_t>("an array's length");
  if (array.type == GgufType::array) {
    cursor.fail_here("'{}' is an array of arrays; expected numbers, bools or strings", printable(key));
  }
  const bool strings = array.type == GgufType::string;
  const std::uint64_t least = strings ? kStringLengthBytes : static_cast<std::uint64_t>(size_of(array.type));
  if (array.count > cursor.left() / least) {
    cursor.fail_here("array '{}' has {} elements of at least {} bytes, but the file has {} bytes left", printable(key),
                     array.count, least, cursor.left());
  }
  if (!strings) {
    array.numbers = cursor.take(array.count * least, "an array");
    const auto is_no_bool = [](std::byte b) { return b > std::byte{1}; };
    if (array.type == GgufType::boolean && std::any_of(array.numbers.begin(), array.numbers.end(), is_no_bool)) {
      cursor.fail_here("array '{}' of bools has an element that is neither 0 nor 1", printable(key));
    }
    return array;
  }
  array.strings.reserve(array.count);
  for (std::uint64_t i = 0; i < array.count; ++i) array.strings.push_back(cursor.text("a string of an array"));
  return array;
}

GgufValue read_value(Cursor& cursor, std::string_view key) {
  const GgufType type = read_type(cursor, key);
  switch (type) {
    case GgufType::uint8: return {type, std::uint64_t{cursor.read<std::uint8_t>("a value")}};
    case GgufType::uint16: return {type, std::uint64_t{cursor.read<std::uint16_t>("a value")}};
    case GgufType::uint32: return {type, std::uint64_t{cursor.read<std::uint32_t>("a value")}};
    case GgufType::uint64: return {type, cursor.read<std::uint64_t>("a value")};
    case GgufType::int8: return {type, std::int64_t{cursor.read<std::int8_t>("a value")}};
    case GgufType::int16: return {type, std::int64_t{cursor.read<std::int16_t>("a value")}};
    case GgufType::int32: return {type, std::int64_t{cursor.read<std::int32_t>("a value")}};
    case GgufType::int64: return {type, cursor.read<std::int64_t>("a value")};
    case GgufType::float32: return {type, double{cursor.read<float>("a value")}};
    case GgufType::float64: return {type, cursor.read<double>("a value")};
    case GgufType::boolean: return {type, read_bool(cursor, key)};
    case GgufType::string: return {type, cursor.text("a string")};
    case GgufType::array: return {type, read_array(cursor, key)};
  }
  return {};
}

/// Version; the rest of the header is checked by who reads on.
std::uint32_t read_version(Cursor& cursor, std::string_view path) {
  if (cursor.read<std::uint32_t>("the magic number") != kMagic) {
    fail_at(ErrorCode::parse, path, 0, "no GGUF file: it does not begin with 'GGUF'");
  }
  const auto version = cursor.read<std::uint32_t>("the version");
  if (version != 2 && version != 3) {
    const bool swapped = version != 0 && (version & 0xFFFF) == 0;
    fail_at(ErrorCode::unsupported, path, 4, "GGUF version {}{}; expected version 2 or 3, little-endian",
            swapped ? version >> 24 : version, swapped ? " in big-endian byte order" : "");
  }
  return version;
}

std::uint64_t read_count(Cursor& cursor, std::string_view what, std::uint64_t least_bytes) {
  const auto count = cursor.read<std::uint64_t>(what);
  if (count > cursor.left() / least_bytes) {
    cursor.fail_here("{} {}, but the file's {} bytes left hold at most {}", count, what, cursor.left(),
                     cursor.left() / least_bytes);
  }
  return count;
}

std::string_view read_name(Cursor& cursor, std::string_view what) {
  const std::string_view name = cursor.text(what);
  if (name.empty() || name.size() > kMostNameBytes) {
    cursor.fail_here("{} of {} bytes; expected 1 to {}", what, name.size(), kMostNameBytes);
  }
  return name;
}

std::vector<std::int64_t> read_shape(Cursor& cursor, std::string_view name) {
  const auto axes = cursor.read<std::uint32_t>("the number of axes");
  if (axes > kMostAxes) cursor.fail_here("tensor '{}' has {} axes; expected at most 4", printable(name), axes);
  std::vector<std::int64_t> shape(axes);
  for (std::int64_t& extent : shape) extent = cursor.read<std::int64_t>("an extent");
  // GGUF puts the contiguous axis first.
  std::reverse(shape.begin(), shape.end());
  if (!product(shape)) {
    cursor.fail_here("tensor '{}' [{}]: an extent is negative, or the number of elements exceeds 64 bits",
                     printable(name), fmt::join(shape, ", "));
  }
  return shape;
}

/// A tensor whose offset still counts from the start of the data, and whose bytes only have their size.
struct Declared {
  FileTensor tensor;
  std::uint64_t bytes = 0;
  std::uint64_t told_at = 0;  // where the file describes it
};

Declared read_tensor(Cursor& cursor, std::string_view path) {
  Declared declared;
  FileTensor& tensor = declared.tensor;
  declared.told_at = cursor.offset();
  tensor.name = read_name(cursor, "a tensor's name");
  tensor.shape = read_shape(cursor, tensor.name);
  const auto number = cursor.read<std::uint32_t>("a tensor's type");
  const std::optional<Storage> storage = storage_of_gguf(number);
  if (!storage) {
    fail_at(ErrorCode::unsupported, path, cursor.offset() - 4, "tensor '{}' is stored as {}; supported are {}",
            printable(tensor.name), gguf_name(number), gguf_supported());
  }
  tensor.storage = *storage;
  const std::int64_t in_block = info(*storage).block_elements;
  const auto bytes = bytes_of(*storage, *product(tensor.shape));
  if (tensor.columns() % in_block != 0 || !bytes) {
    cursor.fail_here(
        "tensor '{}' [{}] of type {}: expected rows of whole blocks of {} elements, and fewer bytes than "
        "64 bits count",
        printable(tensor.name), fmt::join(tensor.shape, ", "), info(*storage).name, in_block);
  }
  declared.bytes = static_cast<std::uint64_t>(*bytes);
  tensor.offset = cursor.read<std::uint64_t>("a tensor's offset");
  return declared;
}

/// Turns declared offsets into ones from the start of the file, and gives the tensor its bytes.
void place(Declared& declared, std::string_view path, std::span<const std::byte> file, std::uint64_t data_begin,
           std::uint64_t alignment) {
  FileTensor& tensor = declared.tensor;
  const std::string name = printable(tensor.name);
  if (tensor.offset % alignment != 0) {
    fail_at(ErrorCode::parse, path, declared.told_at, "tensor '{}' has offset {}, no multiple of the alignment {}",
            name, tensor.offset, alignment);
  }
  const std::uint64_t room = file.size() - data_begin;
  if (tensor.offset > room || declared.bytes > room - tensor.offset) {
    fail_at(ErrorCode::parse, path, declared.told_at,
            "tensor '{}' takes {} bytes at offset {} of the data, which has only {}: the file is truncated or damaged",
            name, declared.bytes, tensor.offset, room);
  }
  tensor.offset += data_begin;
  tensor.bytes = file.subspan(tensor.offset, declared.bytes);
}

void expect_disjoint(const std::vector<FileTensor>& tensors, std::string_view path) {
  std::vector<const FileTensor*> by_offset;
  for (const FileTensor& tensor : tensors) {
    if (!tensor.bytes.empty()) by_offset.push_back(&tensor);
  }
  std::sort(by_offset.begin(), by_offset.end(), [](const auto* a, const auto* b) { return a->offset < b->offset; });
  for (std::size_t i = 1; i < by_offset.size(); ++i) {
    const FileTensor &first = *by_offset[i - 1], &second = *by_offset[i];
    if (first.offset + first.bytes.size() > second.offset) {
      fail_at(ErrorCode::parse, path, second.offset, "tensors '{}' and '{}' overlap", printable(first.name),
              printable(second.name));
    }
  }
}

}  // namespace

GgufFile::GgufFile(std::string path) : file_(std::move(path)) {
  Cursor cursor(file_.path(), file_.bytes());
  version_ = read_version(cursor, file_.path());
  const std::uint64_t tensor_count = read_count(cursor, "tensors", kLeastTensorBytes);
  const std::uint64_t setting_count = read_count(cursor, "settings", kLeastSettingBytes);
  for (std::uint64_t i = 0; i < setting_count; ++i) {
    const std::string_view key = read_name(cursor, "a key");
    if (!keys_.emplace(key, metadata_.size()).second) cursor.fail_here("key '{}' appears twice", printable(key));
    metadata_.emplace_back(key, read_value(cursor, key));
  }
  alignment_ = static_cast<std::uint64_t>(integer_or(kGgufAlignmentKey, 1, kMostAlignment, kGgufDefaultAlignment));
  if (!std::has_single_bit(alignment_)) {
    cursor.fail_here("{} is {}; expected a power of two", kGgufAlignmentKey, alignment_);
  }
  std::vector<Declared> declared;
  for (std::uint64_t i = 0; i < tensor_count; ++i) {
    declared.push_back(read_tensor(cursor, file_.path()));
    const std::string_view name = declared.back().tensor.name;
    if (!names_.emplace(name, i).second) cursor.fail_here("tensor '{}' appears twice", printable(name));
  }
  const std::uint64_t begin = std::min<std::uint64_t>((cursor.offset() + alignment_ - 1) & ~(alignment_ - 1), bytes());
  for (Declared& one : declared) {
    place(one, file_.path(), file_.bytes(), begin, alignment_);
    tensors_.push_back(std::move(one.tensor));
  }
  expect_disjoint(tensors_, file_.path());
}

const FileTensor* GgufFile::find_tensor(std::string_view name) const {
  const auto found = names_.find(name);
  return found == names_.end() ? nullptr : &tensors_[found->second];
}

const FileTensor& GgufFile::tensor(std::string_view name) const {
  if (const FileTensor* found = find_tensor(name)) return *found;
  fail(ErrorCode::parse, "{}: it has no tensor '{}'; `tilewise inspect` lists those that it has", path(), name);
}

}  // namespace tilewise::io
