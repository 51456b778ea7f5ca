// A variant with the plans that were made of it, so that a call with shapes seen before plans nothing.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "tilewise/attention.h"

namespace tilewise::python {

class Recipe {
 public:
  explicit Recipe(Variant variant) : attention_(std::move(variant)) {}

  const Variant& variant() const { return attention_.variant(); }

  /// The plan of that shape, made now or kept. The last kKept of them are. Where `may_grow`, the plan may be one for
  /// more keys, since decoding makes a call for each length of a cache. Where every read is clamped, plans of the
  /// forward pass hold for tables of any extents, and are kept without these. Where it must be made, the plan of shape
  /// `first`, unless that is null, is made before it, or what that throws is left to who asks for it.
  Plan plan(const PlanShape& shape, const Device& device, bool may_grow, const PlanShape* first = nullptr);

  static constexpr std::size_t kKept = 256;

 private:
  using Key = std::vector<std::int64_t>;
  struct Hash {
    std::size_t operator()(const Key& key) const;
  };

  Plan kept_or_made(const PlanShape& shape, const Device& device, const PlanShape* first = nullptr);

  Attention attention_;
  std::mutex lock_;
  bool needs_tables_ = false;  // whether planning without the tables' extents was refused once
  std::unordered_map<Key, Plan, Hash> plans_;
  std::deque<Key> order_;  // as they were made
};

void bind_variants(nanobind::module_& module);
void bind_zoo_tables(nanobind::module_& module);

}  // namespace tilewise::python
