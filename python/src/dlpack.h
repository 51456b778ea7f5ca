// DLPack's binary interface, version 1, and the fast exchange that it defines for frameworks' own types.
//
// Facts of https://dmlc.github.io/dlpack/latest/c_api.html. Distributions ship the header of a version before 1, which
// has neither versions nor the exchange.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tilewise::python::dlpack {

enum class DeviceType : std::int32_t { cpu = 1, cuda = 2, cuda_host = 3, cuda_managed = 13 };
enum class Code : std::uint8_t { integer = 0, unsigned_integer = 1, real = 2, bfloat = 4, boolean = 6 };

struct Version {
  std::uint32_t major;
  std::uint32_t minor;
};

struct ElementType {
  std::uint8_t code;  // of Code
  std::uint8_t bits;
  std::uint16_t lanes;
};

struct Tensor {
  void* data;
  DeviceType device_type;
  std::int32_t device_id;
  std::int32_t rank;
  ElementType type;
  std::int64_t* extents;  // [rank]
  std::int64_t* strides;  // [rank], elements; before version 1.2 null for row-major
  std::uint64_t byte_offset;
};

/// What a capsule named "dltensor" holds.
struct Managed {
  Tensor tensor;
  void* context;
  void (*deleter)(Managed*);
};

/// What a capsule named "dltensor_versioned" holds.
struct ManagedVersioned {
  Version version;
  void* context;
  void (*deleter)(ManagedVersioned*);
  std::uint64_t flags;
  Tensor tensor;
};
inline constexpr std::uint64_t kReadOnly = 1;

/// Is told why an allocation failed: what kind of error, and a message.
using Tell = void (*)(void* context, const char* kind, const char* message);

/// What the capsule in a type's attribute __dlpack_c_exchange_api__ points to. All functions return 0 on success, and
/// otherwise have set a Python exception; allocate() tells instead.
struct Exchange {
  Version version;
  const Exchange* previous;
  int (*allocate)(Tensor* wanted, ManagedVersioned** out, void* context, Tell tell);
  int (*managed_from_object)(void* object, ManagedVersioned** out);
  int (*object_from_managed)(ManagedVersioned* tensor, void** object);
  int (*tensor_from_object)(void* object, Tensor* out);  // borrows the object's extents and strides
  int (*current_stream)(DeviceType device_type, std::int32_t device_id, void** stream);
};

}  // namespace tilewise::python::dlpack
