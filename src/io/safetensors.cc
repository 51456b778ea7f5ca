#include "io/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <optional>

#include "io/cursor.h"
#include "io/json.h"

namespace tilewise::io {
namespace {

constexpr std::uint64_t kMostHeaderBytes = 100'000'000;  // the format's own limit
constexpr std::size_t kMostAxes = 16;
constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();

struct Named {
  const char* name;
  Storage storage;
};
constexpr std::array<Named, 13> kStorages = {{
    {"F64", Storage::float64},
    {"F32", Storage::float32},
    {"F16", Storage::float16},
    {"BF16", Storage::bfloat16},
    {"I64", Storage::int64},
    {"I32", Storage::int32},
    {"I16", Storage::int16},
    {"I8", Storage::int8},
    {"U64", Storage::uint64},
    {"U32", Storage::uint32},
    {"U16", Storage::uint16},
    {"U8", Storage::uint8},
    {"BOOL", Storage::boolean},
}};

Storage storage_of(const JsonValue& dtype) {
  std::string supported;
  for (const Named& named : kStorages) {
    if (dtype.string() == named.name) return named.storage;
    supported += (supported.empty() ? "" : ", ") + std::string(named.name);
  }
  fail(ErrorCode::unsupported, "{}, {}: '{}' is not supported; supported are {}", dtype.path(), dtype.where(),
       printable(dtype.string()), supported);
}

std::vector<std::int64_t> shape_of(const JsonValue& shape) {
  if (shape.size() > kMostAxes)
    shape.fail_here(fmt::format("has {} axes; expected at most {}", shape.size(), kMostAxes));
  std::vector<std::int64_t> extents;
  for (std::size_t axis = 0; axis < shape.size(); ++axis) extents.push_back(shape.element(axis).integer(0, kMost));
  return extents;
}

/// The tensor that a member of the header describes; its offset still counts from the start of the data.
FileTensor tensor_of(std::string_view name, const JsonValue& described, std::span<const std::byte> data) {
  FileTensor tensor;
  tensor.name = name;
  tensor.storage = storage_of(described.member("dtype"));
  tensor.shape = shape_of(described.member("shape"));
  const JsonValue offsets = described.member("data_offsets");
  if (offsets.size() != 2) offsets.fail_here(fmt::format("has {} elements; expected begin and end", offsets.size()));
  const auto data_bytes = static_cast<std::int64_t>(data.size());
  const std::int64_t begin = offsets.element(0).integer(0, data_bytes);
  const std::int64_t end = offsets.element(1).integer(begin, data_bytes);
  const std::optional<std::int64_t> elements = product(tensor.shape);
  const std::optional<std::int64_t> bytes = elements ? bytes_of(tensor.storage, *elements) : std::nullopt;
  if (bytes != end - begin) {
    described.fail_here(fmt::format("[{}] of {} does not take the {} bytes of its data_offsets [{}, {}]",
                                    fmt::join(tensor.shape, ", "), info(tensor.storage).name, end - begin, begin, end));
  }
  tensor.offset = static_cast<std::uint64_t>(begin);
  tensor.bytes = data.subspan(tensor.offset, static_cast<std::size_t>(*bytes));
  return tensor;
}

std::string_view read_header(Cursor& cursor) {
  const auto size = cursor.read<std::uint64_t>("the header's length");
  if (size > kMostHeaderBytes) {
    cursor.fail_here("the header has {} bytes; expected at most {}. This may be no safetensors file", size,
                     kMostHeaderBytes);
  }
  const auto bytes = cursor.take(size, "the header");
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

SafetensorsFile::SafetensorsFile(std::string path) : file_(std::move(path)) {
  Cursor cursor(file_.path(), file_.bytes());
  const std::string_view header = read_header(cursor);
  const std::uint64_t data_begin = cursor.offset();
  const auto data = file_.bytes().subspan(data_begin);
  const JsonValue described = JsonValue::parse(header, file_.path(), sizeof(std::uint64_t));
  described.for_each([&](const std::string& name, const JsonValue& value) {
    if (name == "__metadata__") {
      value.for_each(
          [&](const std::string& key, const JsonValue& text) { metadata_.emplace_back(key, text.string()); });
    } else {
      tensors_.push_back(tensor_of(names_.emplace_back(name), value, data));
    }
  });
  // Empty tensors first where offsets are equal, so that one between two others is no overlap.
  std::sort(tensors_.begin(), tensors_.end(), [](const FileTensor& a, const FileTensor& b) {
    return std::pair(a.offset, a.bytes.size()) < std::pair(b.offset, b.bytes.size());
  });
  std::uint64_t expected = 0;
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    FileTensor& tensor = tensors_[i];
    if (tensor.offset != expected) {
      fail_at(ErrorCode::parse, file_.path(), data_begin + tensor.offset,
              "tensor '{}' begins at offset {} of the data, but the one before it ends at {}: expected no gap and no "
              "overlap",
              printable(tensor.name), tensor.offset, expected);
    }
    expected += tensor.bytes.size();
    tensor.offset += data_begin;
    by_name_.emplace(tensor.name, i);
  }
  if (expected != data.size()) {
    fail_at(ErrorCode::parse, file_.path(), data_begin + expected,
            "{} bytes after the last tensor belong to none: the file is damaged", data.size() - expected);
  }
}

const FileTensor* SafetensorsFile::find_tensor(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &tensors_[found->second];
}

const FileTensor& SafetensorsFile::tensor(std::string_view name) const {
  if (const FileTensor* found = find_tensor(name)) return *found;
  fail(ErrorCode::parse, "{}: it has no tensor '{}'; `tilewise inspect` lists those that it has", path(), name);
}

}  // namespace tilewise::io
