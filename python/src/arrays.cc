#include "arrays.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "tilewise/error.h"

namespace nb = nanobind;

namespace tilewise::python {

namespace {

// A type whose exchange was looked up. It is kept alive, so that no other type takes its address; those that have an
// exchange are few.
struct KnownType {
  nb::object type;
  const dlpack::Exchange* exchange = nullptr;
};

const dlpack::Exchange* look_up_exchange(nb::handle type) {
  nb::object capsule = nb::steal(PyObject_GetAttrString(type.ptr(), "__dlpack_c_exchange_api__"));
  if (!capsule.is_valid()) {
    PyErr_Clear();
    return nullptr;
  }
  const auto* exchange =
      static_cast<const dlpack::Exchange*>(PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
  if (exchange == nullptr) PyErr_Clear();
  while (exchange != nullptr && exchange->version.major != 1) exchange = exchange->previous;
  return exchange;
}

std::string kind_of(nb::handle object) { return nb::str(object.type().attr("__name__")).c_str(); }

[[noreturn]] void refuse_type(const char* name, nb::handle object, const std::string& found) {
  throw nb::type_error(
      (std::string(name) + ": " + found + " of a " + kind_of(object) +
       " cannot be used; expected float64, float32, float16, bfloat16, int64, int32, int8, uint8 or bool")
          .c_str());
}

bool known(const dlpack::ElementType& type, DType& dtype) {
  if (type.lanes != 1) return false;
  const auto is = [&](dlpack::Code code, int bits, DType found) {
    if (type.code != static_cast<std::uint8_t>(code) || type.bits != bits) return false;
    dtype = found;
    return true;
  };
  using enum dlpack::Code;
  return is(real, 32, DType::float32) || is(real, 64, DType::float64) || is(real, 16, DType::float16) ||
         is(bfloat, 16, DType::bfloat16) || is(integer, 64, DType::int64) || is(integer, 32, DType::int32) ||
         is(integer, 8, DType::int8) || is(unsigned_integer, 8, DType::uint8) || is(boolean, 8, DType::boolean);
}

// Of the buffer protocol's format: one letter, perhaps with a byte order before it.
bool type_of_format(const char* format, Py_ssize_t bytes, dlpack::ElementType& type) {
  if (format == nullptr) format = "B";
  if (*format == '@' || *format == '=' || *format == '<') ++format;
  if (format[0] == '\0' || format[1] != '\0') return false;
  dlpack::Code code{};
  switch (format[0]) {
    case 'e':
    case 'f':
    case 'd': code = dlpack::Code::real; break;
    case '?': code = dlpack::Code::boolean; break;
    case 'b':
    case 'h':
    case 'i':
    case 'l':
    case 'q': code = dlpack::Code::integer; break;
    case 'B':
    case 'H':
    case 'I':
    case 'L':
    case 'Q': code = dlpack::Code::unsigned_integer; break;
    default: return false;
  }
  type = {.code = static_cast<std::uint8_t>(code), .bits = static_cast<std::uint8_t>(8 * bytes), .lanes = 1};
  return true;
}

// NumPy's dtypes of other packages (ml_dtypes) are of no kind that it knows itself.
bool is_numpy_bfloat16(nb::handle object) {
  if (!nb::hasattr(object, "dtype")) return false;
  const nb::object dtype = object.attr("dtype");
  return nb::hasattr(dtype, "kind") && nb::cast<std::string>(dtype.attr("kind")) == "V" &&
         nb::cast<std::string>(dtype.attr("name")) == "bfloat16";
}

}  // namespace

const dlpack::Exchange* exchange_of(nb::handle object) {
  static auto* known = new std::vector<KnownType>();  // outlives the interpreter, which may not be asked at exit
  for (const KnownType& each : *known) {
    if (each.type.is(object.type())) return each.exchange;
  }
  const dlpack::Exchange* exchange = look_up_exchange(object.type());
  if (exchange != nullptr) known->push_back({nb::borrow(object.type()), exchange});
  return exchange;
}

Array::Array(nb::handle object, const char* name) {
  if (take_raw(object)) return;
  if (!take_buffer(object, name) && !take_exchange(object) && !take_capsule(object)) {
    throw nb::type_error((std::string(name) + ": a " + kind_of(object) +
                          " is no array; expected one of NumPy, PyTorch, JAX or another with __dlpack__()")
                             .c_str());
  }
  if (!known(type_, view_.dtype)) {
    refuse_type(
        name, object,
        "elements of DLPack's type " + std::to_string(type_.code) + " with " + std::to_string(type_.bits) + " bits");
  }
}

Array::~Array() {
  if (buffer_.obj != nullptr) PyBuffer_Release(&buffer_);
  if (managed_ != nullptr && managed_->deleter != nullptr) managed_->deleter(managed_);
  if (managed_versioned_ != nullptr && managed_versioned_->deleter != nullptr) {
    managed_versioned_->deleter(managed_versioned_);
  }
}

ConstTensor Array::read() const { return view_; }

Tensor Array::write(const char* name) const {
  if (read_only_) throw nb::value_error((std::string(name) + " is read-only, and is written").c_str());
  return view_;
}

void Array::set(void* data, std::span<const std::int64_t> extents, const std::int64_t* strides) {
  const auto rank = static_cast<int>(extents.size());
  if (rank > kMaxRank) {
    throw Error(ErrorCode::invalid_argument, "an array has " + std::to_string(rank) + " axes; expected at most 4");
  }
  view_.data = data;
  view_.rank = rank;
  std::int64_t step = 1;
  for (std::size_t axis = extents.size(); axis-- > 0;) {
    view_.extents[axis] = extents[axis];
    // Frameworks leave any number in the stride of an axis of one element or none.
    view_.strides[axis] = strides != nullptr && extents[axis] > 1 ? strides[axis] : step;
    step *= extents[axis];
  }
}

void Array::take(const dlpack::Tensor& tensor) {
  type_ = tensor.type;
  device_type_ = tensor.device_type;
  // Pinned memory is the host's as well.
  if (device_type_ == dlpack::DeviceType::cuda_host) device_type_ = dlpack::DeviceType::cpu;
  device_id_ = tensor.device_id;
  set(static_cast<std::byte*>(tensor.data) + tensor.byte_offset,
      std::span(tensor.extents, static_cast<std::size_t>(tensor.rank)), tensor.strides);
}

bool Array::take_raw(nb::handle object) {
  if (!nb::isinstance<RawArray>(object)) return false;
  const auto& raw = nb::cast<const RawArray&>(object);
  read_only_ = true;
  set(const_cast<void*>(raw.data.data()), raw.extents, nullptr);
  view_.dtype = raw.dtype;
  return true;
}

bool Array::take_exchange(nb::handle object) {
  const dlpack::Exchange* exchange = exchange_of(object);
  if (exchange == nullptr || exchange->tensor_from_object == nullptr) return false;
  dlpack::Tensor tensor{};
  if (exchange->tensor_from_object(object.ptr(), &tensor) != 0) throw nb::python_error();
  take(tensor);
  is_from_exchange_ = true;
  return true;
}

bool Array::take_buffer(nb::handle object, const char* name) {
  if (PyObject_CheckBuffer(object.ptr()) == 0) return false;
  bool is_bfloat = false;
  if (PyObject_GetBuffer(object.ptr(), &buffer_, PyBUF_RECORDS_RO) != 0) {
    buffer_.obj = nullptr;
    PyErr_Clear();
    is_bfloat = is_numpy_bfloat16(object);  // for which the protocol has no letter
    if (!is_bfloat) return false;
    const nb::object lettered = object.attr("view")("uint16");
    if (PyObject_GetBuffer(lettered.ptr(), &buffer_, PyBUF_RECORDS_RO) != 0) throw nb::python_error();
  }
  read_only_ = buffer_.readonly != 0;
  if (is_bfloat) {
    type_ = {.code = static_cast<std::uint8_t>(dlpack::Code::bfloat), .bits = 16, .lanes = 1};
  } else if (!type_of_format(buffer_.format, buffer_.itemsize, type_)) {
    refuse_type(name, object, std::string("elements of format '") + buffer_.format + "'");
  }
  std::array<std::int64_t, kMaxRank> extents{}, strides{};
  const auto rank = static_cast<std::size_t>(buffer_.ndim);
  for (std::size_t axis = 0; axis < std::min<std::size_t>(rank, kMaxRank); ++axis) {
    extents[axis] = buffer_.shape[axis];
    strides[axis] = buffer_.strides[axis] / buffer_.itemsize;
    if (extents[axis] > 1 && strides[axis] * buffer_.itemsize != buffer_.strides[axis]) {
      throw Error(ErrorCode::invalid_argument,
                  std::string(name) + ": strides are no multiples of an element's size; copy the array");
    }
  }
  if (rank > kMaxRank) {
    throw Error(ErrorCode::invalid_argument,
                std::string(name) + " has " + std::to_string(rank) + " axes; expected at most 4");
  }
  set(buffer_.buf, std::span(extents).first(rank), strides.data());
  return true;
}

bool Array::take_capsule(nb::handle object) {
  nb::object capsule = nb::borrow(object);
  if (!PyCapsule_CheckExact(object.ptr())) {
    if (!nb::hasattr(object, "__dlpack__")) return false;
    try {
      capsule = object.attr("__dlpack__")(nb::arg("max_version") = nb::make_tuple(1, 0));
    } catch (nb::python_error& error) {
      // Before version 1 of the protocol there was no such argument.
      if (!error.matches(PyExc_TypeError)) throw;
      capsule = object.attr("__dlpack__")();
    }
  }
  const char* name = PyCapsule_GetName(capsule.ptr());
  if (name == nullptr) return false;
  const auto take_from = [&](auto*& managed, const char* used) {
    managed = static_cast<std::remove_reference_t<decltype(managed)>>(PyCapsule_GetPointer(capsule.ptr(), name));
    if (managed == nullptr) throw nb::python_error();
    PyCapsule_SetName(capsule.ptr(), used);
    take(managed->tensor);
  };
  if (std::string_view(name) == "dltensor_versioned") {
    take_from(managed_versioned_, "used_dltensor_versioned");
    read_only_ = (managed_versioned_->flags & dlpack::kReadOnly) != 0;
    return true;
  }
  if (std::string_view(name) == "dltensor") {
    take_from(managed_, "used_dltensor");
    return true;
  }
  return false;
}

void bind_arrays(nb::module_& module) {
  nb::class_<RawArray>(module, "RawArray")
      .def(
          "__init__",
          [](RawArray* place, nb::bytes data, const std::string& dtype, std::vector<std::int64_t> extents) {
            const ConstTensor view(nullptr, dtype_from_string(dtype), extents);
            if (static_cast<std::int64_t>(data.size()) != view.elements() * size_of(view.dtype)) {
              throw Error(ErrorCode::invalid_argument, "data has " + std::to_string(data.size()) + " bytes; expected " +
                                                           std::to_string(view.elements() * size_of(view.dtype)));
            }
            new (place) RawArray{std::move(data), view.dtype, std::move(extents)};
          },
          nb::arg("data"), nb::arg("dtype"), nb::arg("shape"))
      .def_prop_ro("shape", [](const RawArray& raw) { return nb::tuple(nb::cast(raw.extents)); });
}

}  // namespace tilewise::python
