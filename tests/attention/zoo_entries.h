// Every named variant, forward, backward and decoding, held to standard attention.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "tests/attention/oracle.h"
#include "tilewise/zoo_entry.h"

namespace tilewise::attention::testing {

inline std::vector<const zoo::Entry*> all_entries() {
  std::vector<const zoo::Entry*> all;
  for (const zoo::Entry& entry : zoo::entries()) all.push_back(&entry);
  return all;
}

/// d_qk and d_v of a call.
struct Dimensions {
  std::int64_t d_qk, d_v;
};

/// The entry's example. `dimensions`: of three calls with gradients, then of two that decode.
inline void expect_close(const zoo::Entry& entry, DType dtype, const std::array<Dimensions, 5>& dimensions,
                         Caller* caller = nullptr) {
  const Variant variant = parse_variant(std::string(entry.example));
  const auto of = [&](std::size_t call, std::int64_t b, std::int64_t h_q, std::int64_t s_q, std::int64_t s_kv) {
    return uniform(b, h_q, h_q / 2, s_q, s_kv, dimensions[call].d_qk, dimensions[call].d_v);
  };
  Oracle oracle(dtype, true, caller), decoding(dtype, false, caller);
  // Four heads on two key heads; more keys than a tile has, and a strip's edge.
  std::array shapes{of(0, 2, 4, 49, 150), of(1, 1, 4, 131, 131), of(2, 1, 2, 97, 33)};
  shapes[2].sequences[0].query_offset = 0;  // positions below 0 are not for every variant
  std::uint64_t seed = 1;
  for (const reference::Shape& shape : shapes)
    oracle.run(variant, shape, bind_random(variant, problem_of(shape), seed), seed), ++seed;
  oracle.expect_close(std::string(entry.name));
  for (const reference::Shape& shape : {of(3, 2, 4, 1, 150), of(4, 1, 4, 3, 1100)})
    decoding.run(variant, shape, bind_random(variant, problem_of(shape), seed), seed), ++seed;
  decoding.expect_close(std::string(entry.name) + ", decoding");
}

}  // namespace tilewise::attention::testing
