// Variants with masks of every kind, for the laws of tiles, and what decides an entry, entry by entry.
#pragma once

#include <cmath>
#include <cstdint>
#include <deque>
#include <limits>
#include <string>
#include <vector>

#include "core/philox.h"
#include "tilewise/variant.h"
#include "variant/bindings.h"
#include "variant/place.h"
#include "variant/scalar.h"

namespace tilewise::tiles {

struct MaskedVariant {
  std::string name;
  Variant variant;
  Bindings bindings;
};

/// Whether a variant keeps an entry whose score is `s`, by the scalar reading and the stages' order.
template <class Real>
bool keeps_entry(const Variant& variant, variant::ScalarReading<Real>& reading, Real s) {
  for (const variant::Stage& stage : variant.data().stages) {
    reading.set_score(s);
    if (stage.kind == variant::Stage::Kind::keep) {
      if (!reading.evaluate(stage.root).boolean) return false;
      continue;
    }
    s = reading.evaluate(stage.root).real;
    if (s == -std::numeric_limits<Real>::infinity()) return false;
    if (s < Real(-0x1p126)) s = Real(-0x1p126);
  }
  return true;
}

/// Masks that read positions alone, and tables of at most `length` positions, which must outlive the variants.
class MaskedVariants {
 public:
  explicit MaskedVariants(int length) : length_(length) {
    add("everything", Variant());
    add("causal", keep([](const At& at) { return at.query >= at.key; }));
    add("top-left causal", keep([](const At& at) { return at.query_index >= at.key_index; }));
    add("inverse causal", keep([](const At& at) { return at.query <= at.key; }));
    add("window", keep([](const At& at) { return at.query >= at.key && at.query - at.key < 9; }));
    add("window of two keeps", keep([](const At& at) { return at.query >= at.key; }) &
                                   keep([](const At& at) { return at.query - at.key < 9; }));
    add("two-sided window", keep([](const At& at) { return abs(at.query - at.key) <= 4; }));
    add("dilated window", keep([](const At& at) {
          const Expr back = at.query - at.key;
          return back >= 0 && back < 21 && back % 3 == 0;
        }));
    add("strided", keep([](const At& at) {
          const Expr back = at.query - at.key;
          return back >= 0 && (back <= 5 || back % 5 == 0);
        }));
    add("prefix", keep([](const At& at) { return at.key < 11 || at.query >= at.key; }));
    add("chunks", keep([](const At& at) { return floor_divide(at.query, 12) == floor_divide(at.key, 12); }));
    add("block causal", keep([](const At& at) { return floor_divide(at.query, 6) >= floor_divide(at.key, 6); }));
    add("image neighbours", keep([](const At& at) {
          const Expr rows = abs(floor_divide(at.query, 10) - floor_divide(at.key, 10));
          return rows <= 1 && abs(at.query % 10 - at.key % 10) <= 2;
        }));
    add("first tokens and window",
        keep([](const At& at) { return at.query >= at.key && (at.key < 4 || at.query - at.key < 13); }));
    add("by head", keep([](const At& at) { return at.query - at.key < 4 * (at.head + 1); }));
    // What bounds cannot see at once: the query does not cancel in them.
    add("nothing, proven by bisection", keep([](const At& at) { return at.query - at.query > at.key % 2; }));
    add("everything, proven by bisection", keep([](const At& at) { return at.query - at.query <= at.key % 2; }));
    add_data_dependent();
    add_scores();
  }

  const std::vector<MaskedVariant>& all() const { return all_; }

 private:
  void add(std::string name, Variant variant, Bindings bindings = {}) {
    all_.push_back({std::move(name), std::move(variant), std::move(bindings)});
  }

  template <class Stored>
  ConstTensor keep_data(DType dtype, std::vector<Stored> values, std::initializer_list<std::int64_t> extents) {
    auto& bytes = storage_.emplace_back(values.size() * sizeof(Stored));
    std::memcpy(bytes.data(), values.data(), bytes.size());
    return {bytes.data(), dtype, extents};
  }

  std::uint32_t random() { return philox4x32({draw_++, 0, 0, 0}, {0, 0})[0]; }

  void add_data_dependent() {
    std::vector<std::int32_t> document;
    for (std::int32_t id = 0; document.size() < static_cast<std::size_t>(length_); ++id)
      document.insert(document.end(), 1 + random() % 25, id);
    document.resize(static_cast<std::size_t>(length_));
    const Table documents("documents", DType::int32, 1);
    const Bindings bindings{{{documents, keep_data(DType::int32, document, {length_})}}, {}};
    const auto of = [&](const Expr& position) { return documents.clamped(position); };
    add("documents", keep([&](const At& at) { return of(at.query) == of(at.key); }), bindings);
    add("causal documents", keep([&](const At& at) { return at.query >= at.key && of(at.query) == of(at.key); }),
        bindings);

    const int blocks = length_ / 4 + 1;
    std::vector<std::uint8_t> map;
    for (int i = 0; i < blocks * blocks; ++i) map.push_back(random() % 8 == 0);
    const Table seen("seen", DType::boolean, 2);
    add("block map",
        keep([&](const At& at) { return seen.clamped(floor_divide(at.query, 4), floor_divide(at.key, 4)); }),
        {{{seen, keep_data(DType::boolean, map, {blocks, blocks})}}, {}});

    std::vector<std::uint8_t> dense;
    for (int i = 0; i < length_ * length_; ++i) dense.push_back(random() % 50 == 0 || (i / length_) / 20 == 1);
    const Table mask("mask", DType::boolean, 2);
    add("dense mask", keep([&](const At& at) { return mask.clamped(at.query, at.key); }),
        {{{mask, keep_data(DType::boolean, dense, {length_, length_})}}, {}});

    std::vector<float> bias;
    for (int i = 0; i < length_ * length_; ++i) {
      const bool removed = (i % length_) / 16 == 1 || random() % 40 == 0;
      bias.push_back(removed ? -std::numeric_limits<float>::infinity() : static_cast<float>(random() % 100));
    }
    const Table additive("additive", DType::float32, 2);
    add("dense additive mask", score([&](Expr s, const At& at) { return s + additive.clamped(at.query, at.key); }),
        {{{additive, keep_data(DType::float32, bias, {length_, length_})}}, {}});
  }

  void add_scores() {
    add("mask by score", score([](Expr s, const At& at) { return select(at.query >= at.key, s, -kInfinity); }));
    add("mask by score, then a window", score([](Expr s, const At& at) {
                                          return select(at.query >= at.key, s, -kInfinity) + 1;
                                        }) & keep([](const At& at) { return at.query - at.key < 9; }));
    add("large negative, not -inf", score([](Expr s, const At& at) {
                                      return select(at.query >= at.key, s, -3.0e38) *
                                             10.0;  // overflows to -inf in float32 alone
                                    }) & score([](Expr s, const At&) { return s; }));
    add("cap", score([](Expr s, const At&) { return 30.0 * tanh(s / 30.0); }));
    add("alibi", score([](Expr s, const At& at) { return s - 0.25 * abs(at.query - at.key); }));
    add("cap after mask", score([](Expr s, const At& at) { return select(at.query >= at.key, s, -kInfinity); }) &
                              score([](Expr s, const At&) { return 30.0 * tanh(s / 30.0); }));
  }

  int length_;
  std::uint32_t draw_ = 0;
  std::deque<std::vector<std::byte>> storage_;
  std::vector<MaskedVariant> all_;
};

}  // namespace tilewise::tiles
