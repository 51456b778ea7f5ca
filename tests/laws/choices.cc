#include "tests/laws/choices.h"

#include <bit>
#include <cmath>
#include <limits>
#include <ostream>

namespace tilewise::laws {
namespace {

constexpr int kInt32Min = std::numeric_limits<std::int32_t>::min();
constexpr int kInt32Max = std::numeric_limits<std::int32_t>::max();

constexpr std::array kEdgeInts{1, -1, 2, 31, 32, 33, -32, 1 << 24, (1 << 24) + 1, 1 << 30, kInt32Min, kInt32Max};

constexpr std::array kEdgeReals{1.0,        -1.0,  -0.0, 0.5,
                                0x1p-126,    // the least normal float32
                                -0x1p-126,   //
                                0x1p-149,    // the least subnormal float32
                                -0x1p-140,   //
                                0x1p24,      // where float32 stops holding every int
                                0x1p31,      //
                                -0x1p126,    //
                                0x1.8p127,   // twice this overflows float32
                                -0x1.8p127,  //
                                88.75,       // exp of it overflows float32
                                -88.75,     -103.5};

}  // namespace

std::int32_t Choices::int32() {
  switch (below(8)) {
    case 6: return any_of(kEdgeInts);
    case 7: return std::bit_cast<std::int32_t>(word());
    default: return static_cast<std::int32_t>(between(0, 200)) - 60;
  }
}

double Choices::real(bool may_be_infinite, bool may_be_nan) {
  switch (below(10)) {
    case 6:
    case 7: {  // any float32 between 2^-20 and 2^20
      const double mantissa = 1 + static_cast<double>(word() & 0x7fffff) * 0x1p-23;
      return std::ldexp(once_in(2) ? -mantissa : mantissa, static_cast<int>(between(-20, 20)));
    }
    case 8: return any_of(kEdgeReals);
    case 9:
      if (may_be_nan && once_in(4)) return std::numeric_limits<double>::quiet_NaN();
      if (may_be_infinite) return once_in(2) ? -HUGE_VAL : HUGE_VAL;
      [[fallthrough]];
    default: return static_cast<double>(between(0, 128) - 64) / 8;
  }
}

std::ostream& operator<<(std::ostream& out, const Choices& choices) {
  out << "tape {";
  for (std::size_t i = 0; i < choices.tape().size(); ++i) out << (i == 0 ? "" : ", ") << choices.tape()[i];
  return out << '}';
}

Choices full_tape(std::uint64_t seed) {
  rc::Random source(seed);
  std::vector<std::uint32_t> tape(1000);
  for (std::uint32_t& word : tape) word = static_cast<std::uint32_t>(source.next());
  return Choices(std::move(tape));
}

rc::Gen<Choices> tapes() {
  using Tape = std::vector<std::uint32_t>;
  return [](const rc::Random& random, int size) {
    rc::Random source = random;
    Tape tape(source.next() % (static_cast<std::size_t>(size) * 12 + 1));
    for (std::uint32_t& word : tape) word = static_cast<std::uint32_t>(source.next());
    const auto shrinks = [](const Tape& words) {
      return rc::seq::concat(rc::shrink::removeChunks(words), rc::shrink::eachElement(words, [](std::uint32_t word) {
                               return rc::shrink::towards(word, 0u);
                             }));
    };
    return rc::shrinkable::map(rc::shrinkable::shrinkRecur(std::move(tape), shrinks),
                               [](Tape words) { return Choices(std::move(words)); });
  };
}

}  // namespace tilewise::laws
