// Variants of attention: keep and score functions between scores and softmax, recorded once as a typed graph.
//
//   Table bias("bias", DType::float32, 2);
//   Variant mine = keep([](const At& at) { return at.query >= at.key && at.query - at.key < 1024; })
//                & score([&](Expr s, const At& at) { return 30 * tanh(s / 30) + bias(at.head, at.query - at.key); });
//
// The functions run once, when they are recorded, on symbolic arguments. Everything else in Tilewise reads the graph.
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tilewise/tensor.h"

namespace tilewise {

namespace variant {
class Recording;  // the graph under construction on this thread
}

/// The type of a symbolic value. A real is float32 in kernels and float64 in the oracle; int32 wraps.
enum class Type : std::uint8_t { boolean, int32, real };

/// "bool", "int" or "real".
const char* to_string(Type type);

/// A symbolic value: a handle to a node of the variant that is being recorded on this thread.
///
/// It has no truth value yet, so it does not convert to bool: write `&&`, `||`, `!` and `select(...)` instead of `if`
/// and `?:`. (Not even by a deleted conversion, which would make `expression && flag` ambiguous.)
/// C++ numbers convert to literals. Using an Expr outside its recording throws Error. Operands of different numeric
/// types promote int to real; a bool is never a number (write `select(b, 1, 0)`).
class Expr {
 public:
  template <class T>
  // NOLINTNEXTLINE(google-explicit-constructor, cppcoreguidelines-pro-type-member-init): literals read as numbers
  requires std::integral<T> || std::floating_point<T> Expr(T value) : Expr(from_number(value)) {}

  Type type() const;

  /// For the library's own readings: the node behind the handle, and the handle of a node of the open recording.
  std::uint32_t node() const { return node_; }
  static Expr of_node(std::uint32_t node);

 private:
  Expr(std::uint32_t node, std::uint32_t recording) : node_(node), recording_(recording) {}
  template <class T>
  static Expr from_number(T value) {
    if constexpr (std::same_as<T, bool>) {
      return boolean(value);
    } else if constexpr (std::floating_point<T>) {
      return real(static_cast<double>(value));
    } else {
      if (std::in_range<std::int32_t>(value)) return int32(static_cast<std::int32_t>(value));
      refuse_integer(std::to_string(value));
    }
  }
  static Expr boolean(bool value);
  static Expr int32(std::int32_t value);
  static Expr real(double value);
  [[noreturn]] static void refuse_integer(const std::string& value);
  friend class variant::Recording;

  std::uint32_t node_;
  std::uint32_t recording_;  // serial number of the recording it belongs to: a stale handle is caught, not followed
};

// Arithmetic. int32 wraps; real is IEEE with no contraction.
Expr operator+(Expr a, Expr b);
Expr operator-(Expr a, Expr b);
Expr operator*(Expr a, Expr b);
Expr operator/(Expr a, Expr b);  ///< Real division; ints are promoted (for integers, see floor_divide).
Expr operator-(Expr a);
Expr floor_divide(Expr a, Expr b);  ///< Python's `//` on ints: rounds down; x // 0 is 0.
Expr operator%(Expr a, Expr b);     ///< Python's `%` on ints: the sign of b; x % 0 is x.
Expr min(Expr a, Expr b);           ///< NaN if either is NaN; b when they compare equal.
Expr max(Expr a, Expr b);           ///< NaN if either is NaN; b when they compare equal.
Expr abs(Expr a);
Expr floor(Expr a);  ///< Largest integral real not above a.

// Bits of an int32. Shift amounts count modulo 32; >> keeps the sign.
Expr operator&(Expr a, Expr b);
Expr operator|(Expr a, Expr b);
Expr operator^(Expr a, Expr b);
Expr operator~(Expr a);
Expr operator<<(Expr a, Expr b);
Expr operator>>(Expr a, Expr b);

// Comparisons and logic give bool. A comparison with NaN is false, except != which is true.
Expr operator==(Expr a, Expr b);
Expr operator!=(Expr a, Expr b);
Expr operator<(Expr a, Expr b);
Expr operator<=(Expr a, Expr b);
Expr operator>(Expr a, Expr b);
Expr operator>=(Expr a, Expr b);
Expr operator&&(Expr a, Expr b);  ///< Both sides are recorded: there is no short circuit.
Expr operator||(Expr a, Expr b);
Expr operator!(Expr a);
Expr select(Expr condition, Expr if_true, Expr if_false);

// Functions of a real; ints are promoted.
Expr exp(Expr x);
Expr exp2(Expr x);
Expr log(Expr x);
Expr log2(Expr x);
Expr sqrt(Expr x);
Expr rsqrt(Expr x);  ///< 1 / sqrt(x).
Expr tanh(Expr x);
Expr sigmoid(Expr x);  ///< 1 / (1 + exp(-x)).
Expr erf(Expr x);
Expr sin(Expr x);
Expr cos(Expr x);
Expr pow(Expr x, double exponent);  ///< The exponent is part of the code, not a literal to be rebound.

Expr to_real(Expr x);  ///< int to real, rounding to nearest.
Expr to_int(Expr x);   ///< real to int, toward zero; saturates; NaN gives 0.

/// A number that is baked into the code instead of being lifted into a literal slot.
Expr constant(double value);
Expr constant(std::int32_t value);

inline constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Where an entry lies: the symbolic arguments of a keep or score function. All are int32.
struct At {
  Expr query, key;              ///< Positions: index plus the sequence's query_offset or key_offset.
  Expr query_index, key_index;  ///< Count within the sequence's own tensors, from 0.
  Expr query_token, key_token;  ///< Rows of packed storage, from 0 over the whole batch.
  Expr queries, keys;           ///< The sequence's lengths, s_q and s_kv.
  Expr batch;                   ///< The sequence.
  Expr head, kv_head;           ///< The query head, and the key/value head that serves it.
};

/// A value that is given at each call. Handles with the same name are different parameters; copies are the same one.
class Parameter {
 public:
  /// A real parameter. Its declared range [low, high] lets bounds be proven; a call with a value outside throws.
  explicit Parameter(std::string name, double low = -kInfinity, double high = kInfinity);
  /// An int32 parameter with its range.
  static Parameter integer(std::string name, std::int32_t low = std::numeric_limits<std::int32_t>::min(),
                           std::int32_t high = std::numeric_limits<std::int32_t>::max());

  const std::string& name() const;
  Type type() const;
  double low() const;
  double high() const;
  operator Expr() const;  // NOLINT(google-explicit-constructor): a parameter reads as its value
  friend bool operator==(const Parameter& a, const Parameter& b) { return a.info_ == b.info_; }

 private:
  struct Info;
  explicit Parameter(std::shared_ptr<const Info> info) : info_(std::move(info)) {}
  std::shared_ptr<const Info> info_;
};

// Parameters take part in expressions like any number.
// (Their conversion to Expr covers every operator above with at least one Expr operand.)

/// A user's array that a variant reads: a handle whose data is bound at the call, or once as `frozen`.
class Table {
 public:
  /// `rank` 1 to 4. Elements of float dtypes read as real, of integer dtypes as int32 (int64 is range-checked when
  /// bound), of bool as bool. int8 is not a table's dtype.
  Table(std::string name, DType dtype, int rank);

  /// A table whose data is copied now and needs no binding.
  static Table frozen(std::string name, ConstTensor data);

  /// The same table, with its values declared to lie in [low, high]; binding data outside throws.
  Table values_in(double low, double high) const;

  const std::string& name() const;
  DType dtype() const;
  int rank() const;
  Type type() const;                               ///< What a read gives.
  std::optional<ConstTensor> frozen_data() const;  ///< Contiguous; empty for a table to be bound.
  double low() const;                              ///< Declared range, or the frozen data's, or the dtype's.
  double high() const;
  bool has_declared_range() const;

  /// Reads an element. Each index is an int; it must be provable at planning that no kept entry reads outside.
  template <class... Index>
  Expr operator()(Index... index) const {
    return read({Expr(index)...}, false);
  }
  /// Reads an element with each index clamped to its axis.
  template <class... Index>
  Expr clamped(Index... index) const {
    return read({Expr(index)...}, true);
  }
  Expr read(std::span<const Expr> index, bool clamped) const;
  Expr read(std::initializer_list<Expr> index, bool clamped) const {
    return read(std::span(index.begin(), index.size()), clamped);
  }
  friend bool operator==(const Table& a, const Table& b) { return a.info_ == b.info_; }

  struct Info;
  const Info& info() const { return *info_; }

 private:
  explicit Table(std::shared_ptr<const Info> info) : info_(std::move(info)) {}
  std::shared_ptr<const Info> info_;
};

/// A table's data for one call, and a parameter's value.
struct TableBinding {
  Table table;
  ConstTensor data;
};
struct ParameterBinding {
  Parameter parameter;
  double value = 0;
};

/// What a call binds to the tables and parameters of its variant: each exactly once; frozen tables are left out.
struct Bindings {
  std::vector<TableBinding> tables;
  std::vector<ParameterBinding> parameters;
};

/// A variant of attention: keeps and scores in order, with an optional sink and dropout. Immutable; cheap to copy.
class Variant {
 public:
  /// Plain attention: every entry kept, scores unchanged.
  Variant();

  /// The graph's content key: 32 hexadecimal digits, the same on every platform. It ignores the values of lifted
  /// literals, parameters and tables' contents, names and extents.
  std::string key() const;

  /// The lifted literals' values in slot order.
  std::vector<double> literals() const;

  /// Tables and parameters in the order in which the variant first reads them.
  const std::vector<Table>& tables() const;
  const std::vector<Parameter>& parameters() const;

  bool has_sink() const;
  bool has_dropout() const;

  struct Data;
  const Data& data() const { return *data_; }
  explicit Variant(std::shared_ptr<const Data> data) : data_(std::move(data)) {}

 private:
  std::shared_ptr<const Data> data_;
};

/// Entries for which `function` is false are removed: weight 0, whatever follows.
Variant keep(const std::function<Expr(const At&)>& function);

/// Replaces the score s = scale * q.k by `function(s, at)`. A result of -inf removes the entry; other results are
/// clamped from below at -2^126.
Variant score(const std::function<Expr(Expr, const At&)>& function);

/// Adds exp(logit) to each row's denominator only (attention sinks). `logit` may read batch, head, kv_head, queries,
/// keys, parameters and tables, but neither position nor score.
Variant sink(const std::function<Expr(const At&)>& logit);

/// Drops weights with the probability given here or, by the call, in its place (Srivastava et al. 2014). In [0, 1].
Variant dropout(double probability);

/// First a, then b. At most one of them may have a sink, and at most one dropout.
Variant operator&(const Variant& a, const Variant& b);

/// The variant's mathematics in the textual form, which `parse_variant` reads back to the same key and literals. Frozen
/// tables of more than 64 elements are written without their values, as tables to be bound.
std::string to_string(const Variant& variant);

/// Reads the textual form: `keep(query >= key and query - key < 1024) & score(30 * tanh(s / 30)) & alibi(8)`, where
/// names of the zoo stand for their variants. docs/textual_form.md has the grammar. Throws Error(parse) with a caret
/// under the place. Tables and parameters that the text declares are new handles, found by name in the result.
Variant parse_variant(const std::string& text);

}  // namespace tilewise
