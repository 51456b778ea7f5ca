#include "tests/attention/drawn.h"

#include "tests/attention/axes.h"
#include "tilewise/zoo_entry.h"

namespace tilewise::attention::testing {

Variant make_variant(int number) {
  const Variant causal = keep([](const At& at) { return at.query >= at.key; });
  const Parameter gain("gain", 0.25, 4);
  switch (number) {
    case 0: return {};
    case 1: return causal;
    case 2:
      return keep([](const At& at) { return abs(at.query - at.key) < 40; }) &
             score([](Expr s, const At&) { return 5 * tanh(s / 5); });
    case 3: {
      const Table bias("bias", DType::float32, 2), logit("logit", DType::bfloat16, 1);
      return causal & score([&](Expr s, const At& at) { return s + bias(at.head, at.key_index); }) &
             sink([&](const At& at) { return logit(at.head); });
    }
    case 4: {
      const Table distance("distance", DType::float32, 2);
      return score([&](Expr s, const At& at) { return s * gain + distance.clamped(at.head, at.query - at.key + 20); });
    }
    case 5: {
      const Table pair("pair", DType::float32, 2);
      return score([&](Expr s, const At& at) {
        const Expr read = pair(at.query_index, at.key_index);
        return select(read > -1.0, s + read, -kInfinity);
      });
    }
    case 6: {
      const Table of_query("of_query", DType::int32, 1), of_key("of_key", DType::uint8, 1);
      return keep([&](const At& at) { return of_query(at.query_token) % 3 == of_key(at.key_token) % 3; }) &
             sink([&](const At& at) { return gain * to_real(at.head); });
    }
    default: return parse_variant(std::string(zoo::entries()[static_cast<std::size_t>(number - kFirstNamed)].example));
  }
}

}  // namespace tilewise::attention::testing
