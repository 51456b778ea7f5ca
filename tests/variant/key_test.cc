// The content key on fixed examples.
//
// The strings were recorded from a first run. They pin that the key stays what it is, on every platform and in every
// version, since caches are addressed by it; they say nothing about its being right, which the laws do. When the key's
// definition changes on purpose, caches are lost on purpose: record them anew and say so in the changelog.
#include <gtest/gtest.h>

#include "tilewise/variant.h"

namespace tilewise {
namespace {

Variant causal() {
  return keep([](const At& at) { return at.query >= at.key; });
}
Variant window(int size) {
  return keep([size](const At& at) { return at.query - at.key < size; });
}
Variant softcap(double cap) {
  return score([cap](Expr s, const At&) { return cap * tanh(s / cap); });
}
Variant biased(DType dtype, const char* name) {
  const Table bias(name, dtype, 2);
  const Parameter slope("slope");
  return score([&](Expr s, const At& at) { return s * slope + bias.clamped(at.head, at.query - at.key); });
}

TEST(Key, OfFixedExamplesStaysWhatItIs) {
  EXPECT_EQ(Variant().key(), "2ca8131f0d749632da0fe6a6fd10fed3");
  EXPECT_EQ(causal().key(), "fa631030af73075d538863a01d0ecf23");
  EXPECT_EQ((causal() & window(1024) & softcap(30)).key(), "a4534550175493b3177bf61e5bae290a");
  EXPECT_EQ(biased(DType::float32, "bias").key(), "9a41e7bdcbd211d5918eb817a3a24cbb");
  EXPECT_EQ((sink([](const At& at) { return pow(at.head, -0.5); }) & dropout(0.1)).key(),
            "34c45c5b7d1d8a12d636252ebfdc7bcc");
}

TEST(Key, IgnoresWhatACallBinds) {
  EXPECT_EQ(window(1024).key(), window(512).key());
  EXPECT_EQ(softcap(30).key(), softcap(50).key());
  EXPECT_EQ(dropout(0.1).key(), dropout(0.9).key());
  EXPECT_EQ(biased(DType::float32, "bias").key(), biased(DType::float32, "other").key());
}

TEST(Key, TellsApartWhatShapesTheCode) {
  std::vector<Variant> different{Variant(),
                                 causal(),
                                 window(2),
                                 window(1),
                                 softcap(30),
                                 causal() & window(5),
                                 window(5) & causal(),
                                 dropout(0.5),
                                 sink([](const At&) { return 2; }),
                                 score([](Expr, const At&) { return 2; }),
                                 biased(DType::float32, "bias"),
                                 biased(DType::float16, "bias"),
                                 biased(DType::float64, "bias")};
  for (double exponent : {2.0, 3.0}) different.push_back(score([=](Expr s, const At&) { return pow(s, exponent); }));
  for (int modulus : {2, 3}) different.push_back(keep([=](const At& at) { return at.query % modulus > 0; }));
  for (double baked : {2.0, 3.0}) different.push_back(score([=](Expr s, const At&) { return s * constant(baked); }));
  const Table table("table", DType::int32, 1);
  different.push_back(keep([&](const At& at) { return table(at.key) > 0; }));
  different.push_back(keep([&](const At& at) { return table.clamped(at.key) > 0; }));
  different.push_back(keep([&](const At& at) { return at.key > Parameter::integer("p"); }));
  different.push_back(keep([&](const At& at) { return at.key > Parameter("p"); }));
  different.push_back(keep([](const At& at) { return at.query < 5 && at.key < 5; }));
  different.push_back(keep([](const At& at) {
    const Expr five = 5;  // one slot instead of two
    return at.query < five && at.key < five;
  }));
  for (std::size_t i = 0; i < different.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) EXPECT_NE(different[i].key(), different[j].key()) << i << " and " << j;
  }
}

}  // namespace
}  // namespace tilewise
