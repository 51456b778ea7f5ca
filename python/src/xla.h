// Handlers of XLA's custom calls on the processor, for JAX, and the part of XLA's binary interface that they need.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <cstdint>

namespace tilewise::python {

/// Facts of xla/ffi/api/c_api.h, version 0.1 and later ones of major version 0: structs grow at their ends only.
namespace xla {

struct Extension {
  std::size_t struct_size;
  std::int32_t type;  // kMetadata
  Extension* next;
};
inline constexpr std::int32_t kMetadata = 1;

struct Version {
  std::size_t struct_size;
  Extension* extension;
  std::int32_t major;
  std::int32_t minor;
};

struct Metadata {
  std::size_t struct_size;
  Version version;
  std::uint32_t traits;
};
struct MetadataExtension {
  Extension base;
  Metadata* metadata;
};

enum class ErrorCode : std::int32_t { invalid_argument = 3, internal = 13 };
struct Error;
struct ErrorArguments {
  std::size_t struct_size;
  Extension* extension;
  const char* message;
  ErrorCode code;
};
struct Api {
  std::size_t struct_size;
  Extension* extension;
  Version version;
  const void* internal;
  Error* (*create_error)(ErrorArguments* arguments);
};

struct Buffer {
  std::size_t struct_size;
  Extension* extension;
  std::int32_t dtype;
  void* data;
  std::int64_t rank;
  std::int64_t* extents;  // [rank]; row-major
};

struct ByteSpan {
  const char* begin;
  std::size_t size;
};
struct Scalar {
  std::int32_t dtype;
  void* value;
};

struct Buffers {
  std::size_t struct_size;
  Extension* extension;
  std::int64_t size;
  std::int32_t* kinds;  // [size]
  void** items;         // [size], each a Buffer*
};
struct Attributes {
  std::size_t struct_size;
  Extension* extension;
  std::int64_t size;
  std::int32_t* kinds;  // [size]
  ByteSpan** names;     // [size]
  void** items;         // [size]
};
struct CallFrame {
  std::size_t struct_size;
  Extension* extension;
  const Api* api;
  void* context;
  std::int32_t stage;  // kExecute, or before it
  Buffers arguments;
  Buffers results;
  Attributes attributes;
};
inline constexpr std::int32_t kExecute = 3;

}  // namespace xla

void bind_xla(nanobind::module_& module);

}  // namespace tilewise::python
