#include "recipe.h"

#include <algorithm>
#include <bit>

#include "tilewise/error.h"

namespace tilewise::python {

namespace {

std::vector<std::int64_t> key_of(const PlanShape& shape, const Device& device) {
  constexpr std::int64_t kNone = std::int64_t{-1} << 62;
  std::vector<std::int64_t> key{static_cast<std::int64_t>(shape.dtype),
                                shape.kv_dtype ? static_cast<std::int64_t>(*shape.kv_dtype) : -1,
                                shape.b,
                                shape.h_q,
                                shape.h_kv,
                                shape.d_qk,
                                shape.d_v,
                                shape.s_q,
                                shape.s_kv,
                                (shape.backward ? 1 : 0) + (shape.deterministic ? 2 : 0),
                                shape.query_offset.value_or(kNone),
                                shape.query_tokens.value_or(kNone),
                                shape.key_tokens.value_or(kNone),
                                device.is_cuda() ? device.ordinal() : -1,
                                device.is_cuda() ? 0 : reinterpret_cast<std::intptr_t>(&device.executor())};
  for (const TableShape& table : shape.tables) key.insert(key.end(), table.extents.begin(), table.extents.end());
  return key;
}

}  // namespace

std::size_t Recipe::Hash::operator()(const Key& key) const {
  std::uint64_t hash = 0xcbf29ce484222325;  // FNV-1a, by words
  for (const std::int64_t word : key) hash = (hash ^ static_cast<std::uint64_t>(word)) * 0x100000001b3;
  return static_cast<std::size_t>(hash ^ (hash >> 32));
}

Plan Recipe::plan(const PlanShape& shape, const Device& device, bool may_grow, const PlanShape* first) {
  const std::scoped_lock locked(lock_);
  PlanShape wider = shape;
  if (!shape.backward && !needs_tables_) {
    wider.tables.clear();
    wider.query_offset.reset();
    constexpr std::int64_t kLeastKeys = 256;
    if (may_grow) {
      const auto keys = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(shape.s_kv)));
      wider.s_kv = std::max(kLeastKeys, keys);
    }
    try {
      return kept_or_made(wider, device, first);
    } catch (const Error&) {
      needs_tables_ = true;  // some read must be proven, which holds for these lengths and extents only
    }
  }
  return kept_or_made(shape, device, first);
}

Plan Recipe::kept_or_made(const PlanShape& shape, const Device& device, const PlanShape* first) {
  Key key = key_of(shape, device);
  if (const auto found = plans_.find(key); found != plans_.end()) return found->second;
  if (first != nullptr) {
    try {
      kept_or_made(*first, device);
    } catch (const Error&) {  // told to the call that asks for it
    }
  }
  Plan made = attention_.plan(shape, device);
  if (order_.size() == kKept) {
    plans_.erase(order_.front());
    order_.pop_front();
  }
  order_.push_back(key);
  plans_.emplace(std::move(key), made);
  return made;
}

}  // namespace tilewise::python
