// Arrays of NumPy, PyTorch, JAX and whoever else speaks DLPack or Python's buffer protocol, as views without a copy.
#pragma once

#include <nanobind/nanobind.h>

#include <array>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "dlpack.h"
#include "tilewise/device.h"
#include "tilewise/tensor.h"

namespace tilewise::python {

/// How q, k, v, o and their gradients lie in memory: their axes as the caller's arrays have them.
enum class Layout : std::uint8_t {
  bhsd,  // [b, h, s, d], the library's own
  bshd,  // [b, s, h, d]; packed: [tokens, h, d]
};

/// Bytes as an array, row-major: what NumPy has no dtype for.
struct RawArray {
  nanobind::bytes data;
  DType dtype;
  std::vector<std::int64_t> extents;  // [rank]
};

/// An array that a Python object holds, for as long as this lives.
class Array {
 public:
  /// Takes the buffer protocol, the fast exchange of DLPack or __dlpack__(), whichever the object's type has first.
  /// Throws a Python TypeError naming `name` where the object is no array, or its elements are of no type that the
  /// library knows, and Error(invalid_argument) with more than four axes.
  Array(nanobind::handle object, const char* name);
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  ~Array();

  ConstTensor read() const;

  /// Throws a Python ValueError naming `name` where the array is read-only.
  Tensor write(const char* name) const;

  dlpack::DeviceType device_type() const { return device_type_; }
  int device_id() const { return device_id_; }
  bool is_from_exchange() const { return is_from_exchange_; }
  bool is_on_gpu() const { return device_type_ == dlpack::DeviceType::cuda; }
  const Tensor& view() const { return view_; }

 private:
  bool take_raw(nanobind::handle object);
  bool take_exchange(nanobind::handle object);
  bool take_buffer(nanobind::handle object, const char* name);
  bool take_capsule(nanobind::handle object);
  void take(const dlpack::Tensor& tensor);
  void set(void* data, std::span<const std::int64_t> extents, const std::int64_t* strides);

  Tensor view_{};
  dlpack::ElementType type_{};
  dlpack::DeviceType device_type_ = dlpack::DeviceType::cpu;
  int device_id_ = 0;
  bool read_only_ = false;
  bool is_from_exchange_ = false;
  Py_buffer buffer_{};
  dlpack::Managed* managed_ = nullptr;
  dlpack::ManagedVersioned* managed_versioned_ = nullptr;
};

/// The same memory with the library's order of axes: [b, h, s, d] or [h, tokens, d] of [b, s, h, d] or [tokens, h, d],
/// and without d likewise.
template <class View>
View in_own_layout(View view, Layout layout, bool has_dimension = true) {
  if (layout == Layout::bhsd) return view;
  const auto heads = static_cast<std::size_t>(view.rank - (has_dimension ? 2 : 1));
  if (heads < 1 || heads >= view.extents.size()) return view;
  std::swap(view.extents[heads], view.extents[heads - 1]);
  std::swap(view.strides[heads], view.strides[heads - 1]);
  return view;
}

/// The fast exchange of an object's type, or null.
const dlpack::Exchange* exchange_of(nanobind::handle object);

void bind_arrays(nanobind::module_& module);

}  // namespace tilewise::python
