#include "core/philox.h"

#include <gtest/gtest.h>

#include <array>

namespace tilewise {
namespace {

struct KnownAnswer {
  PhiloxCounter counter;
  PhiloxKey key;
  std::array<std::uint32_t, 4> words;
};

// Random123's known-answer vectors for "philox4x32 10" (Salmon et al., kat_vectors).
constexpr auto kKnownAnswers = std::to_array<KnownAnswer>({
    {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
     {0xffffffff, 0xffffffff},
     {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
     {0xa4093822, 0x299f31d0},
     {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
});

TEST(Philox, KnownAnswers) {
  for (const KnownAnswer& answer : kKnownAnswers) EXPECT_EQ(philox4x32(answer.counter, answer.key), answer.words);
}

TEST(Philox, IsAConstantExpression) { static_assert(philox4x32({0, 0, 0, 0}, {0, 0})[0] == 0x6627e8d5); }

}  // namespace
}  // namespace tilewise
