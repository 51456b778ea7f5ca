#include "variant/place.h"

#include <gtest/gtest.h>

#include "tilewise/error.h"

namespace tilewise::variant {
namespace {

std::int32_t of(const Place& place, Coordinate coordinate) { return place[static_cast<std::size_t>(coordinate)]; }

TEST(Place, DefaultOffsetsAlignTheLastQueryWithTheLastKey) {
  const Place place = place_of(Problem::uniform(3, 8, 2, 4, 100), 2, 5, 3, 99);
  EXPECT_EQ(of(place, Coordinate::query), 99);
  EXPECT_EQ(of(place, Coordinate::key), 99);
  EXPECT_EQ(of(place, Coordinate::query_index), 3);
  EXPECT_EQ(of(place, Coordinate::key_index), 99);
  EXPECT_EQ(of(place, Coordinate::query_token), 2 * 4 + 3);
  EXPECT_EQ(of(place, Coordinate::key_token), 2 * 100 + 99);
  EXPECT_EQ(of(place, Coordinate::queries), 4);
  EXPECT_EQ(of(place, Coordinate::keys), 100);
  EXPECT_EQ(of(place, Coordinate::batch), 2);
  EXPECT_EQ(of(place, Coordinate::head), 5);
  EXPECT_EQ(of(place, Coordinate::kv_head), 1);
}

TEST(Place, OffsetsMovePositionsAlone) {
  Problem problem = Problem::uniform(1, 1, 1, 4, 10);
  problem.sequences[0].key_offset = 100;
  EXPECT_EQ(of(place_of(problem, 0, 0, 0, 0), Coordinate::query), 106);
  problem.sequences[0].query_offset = -7;
  const Place place = place_of(problem, 0, 0, 2, 3);
  EXPECT_EQ(of(place, Coordinate::query), -5);
  EXPECT_EQ(of(place, Coordinate::key), 103);
  EXPECT_EQ(of(place, Coordinate::query_index), 2);
  EXPECT_EQ(of(place, Coordinate::key_token), 3);
}

TEST(Place, PackedTokensFollowEachOther) {
  const std::int64_t s_q[] = {3, 0, 5}, s_kv[] = {4, 6, 5};
  const Place place = place_of(Problem::packed(1, 1, s_q, s_kv), 2, 0, 1, 2);
  EXPECT_EQ(of(place, Coordinate::query_token), 3 + 1);
  EXPECT_EQ(of(place, Coordinate::key_token), 10 + 2);
}

TEST(Place, BoxesBoundEveryEntry) {
  Problem problem = Problem::uniform(2, 4, 2, 6, 9);
  problem.sequences[1].query_offset = -3;
  const Box box{1, 4, 2, 9};
  const IntervalPlace bounds = place_of(problem, 1, 3, box);
  for (int c = 0; c < kCoordinates; ++c) {
    Interval found{kUnbounded, -kUnbounded, false};
    for (std::int64_t q = box.query_begin; q < box.query_end; ++q)
      for (std::int64_t k = box.key_begin; k < box.key_end; ++k)
        found = hull(found, single(place_of(problem, 1, 3, q, k)[static_cast<std::size_t>(c)]));
    EXPECT_EQ(bounds[static_cast<std::size_t>(c)], found) << to_string(static_cast<Coordinate>(c));
  }
}

/// What validate() says of a problem with one thing changed.
template <class Change>
std::string refusal(Change change) {
  Problem problem = Problem::uniform(2, 4, 2, 6, 9);
  change(problem);
  try {
    problem.validate();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    return error.what();
  }
  return "accepted";
}

TEST(Problem, ValidatesWhatItIsGiven) {
  constexpr std::int64_t kTooMuch = std::int64_t{1} << 31;
  const auto names = [](const std::string& message, const char* part) {
    return message.find(part) != std::string::npos ? testing::AssertionSuccess()
                                                   : testing::AssertionFailure() << message;
  };
  EXPECT_EQ(refusal([](Problem&) {}), "accepted");
  EXPECT_EQ(refusal([](Problem& p) { p.sequences.clear(); }), "accepted");
  EXPECT_TRUE(names(refusal([](Problem& p) { p.h_kv = 3; }), "h_q is 4"));
  EXPECT_TRUE(names(refusal([](Problem& p) { p.h_kv = 0; }), "h_kv is 0"));
  EXPECT_TRUE(names(refusal([](Problem& p) { p.h_q = 0; }), "h_q is 0"));
  EXPECT_TRUE(names(refusal([](Problem& p) { p.sequences[1].s_q = -1; }), "sequence 1: s_q is -1"));
  EXPECT_TRUE(names(refusal([](Problem& p) { p.sequences[0].s_kv = kTooMuch; }), "sequence 0: s_kv"));
  EXPECT_TRUE(names(refusal([](Problem& p) { p.sequences[0].key_start = 10; }), "key_start is 10"));
  EXPECT_TRUE(names(refusal([](Problem& p) { p.sequences[0].key_start = -1; }), "key_start is -1"));
  EXPECT_TRUE(names(refusal([](Problem& p) { p.sequences[0].key_offset = kTooMuch - 5; }), "key_offset"));
  EXPECT_TRUE(names(refusal([](Problem& p) { p.sequences[0].query_offset = -kTooMuch - 1; }), "query_offset"));
  EXPECT_TRUE(names(refusal([](Problem& p) { p.sequences[0].first_key_token = -1; }), "first_key_token"));
  EXPECT_TRUE(names(refusal([](Problem& p) { p.sequences[0].first_query_token = kTooMuch; }), "first_query_token"));
}

TEST(Problem, MakersRefuseBadLengths) {
  const std::int64_t two[] = {1, 2}, one[] = {1}, negative[] = {1, -2};
  EXPECT_THROW(Problem::packed(1, 1, two, one), Error);
  EXPECT_THROW(Problem::packed(1, 1, two, negative), Error);
  EXPECT_THROW(Problem::uniform(-1, 1, 1, 2, 2), Error);
  EXPECT_THROW(Problem::uniform(1, 1, 1, -2, 2), Error);
}

}  // namespace
}  // namespace tilewise::variant
