#include "tiles/reads.h"

#include <gtest/gtest.h>

#include "core/fail.h"
#include "tilewise/tiles.h"

namespace tilewise {
namespace {

using Extents = std::vector<std::vector<std::int64_t>>;

const Table kBias("bias", DType::float32, 1);

/// The error of the check, or nothing.
std::optional<Error> error_of(const Variant& variant, const Extents& extents, const Problem& problem) {
  try {
    expect_reads_inside(variant, extents, problem);
    return {};
  } catch (const Error& error) {
    return error;
  }
}

void expect_proven(const Variant& variant, const Extents& extents, const Problem& problem) {
  const auto error = error_of(variant, extents, problem);
  EXPECT_FALSE(error) << error->what();
}

void expect_refused(const Variant& variant, const Extents& extents, const Problem& problem, ErrorCode code,
                    const std::vector<std::string>& named) {
  const auto error = error_of(variant, extents, problem);
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), code) << error->what();
  for (const std::string& part : named)
    EXPECT_NE(std::string(error->what()).find(part), std::string::npos) << error->what() << "\nlacks: " << part;
}

Variant relative_bias() {
  return score([](Expr s, const At& at) { return s + kBias(at.query - at.key); });
}
Variant causal() {
  return keep([](const At& at) { return at.query >= at.key; });
}

TEST(Reads, AReadMustBeInsideForEveryKeptEntry) {
  const Problem problem = Problem::uniform(1, 1, 1, 100, 100);
  expect_proven(causal() & relative_bias(), {{100}}, problem);
  expect_refused(causal() & relative_bias(), {{99}}, problem, ErrorCode::invalid_argument,
                 {"bias", "query - key", "is 99", "query_index 99", "key_index 0", "0 to 98"});
  expect_refused(relative_bias(), {{100}}, problem, ErrorCode::invalid_argument, {"bias", "query - key"});
}

TEST(Reads, TheMaskMayComeBehind) {
  expect_proven(relative_bias() & causal(), {{100}}, Problem::uniform(1, 1, 1, 100, 100));
}

TEST(Reads, ClampedReadsNeedNoProof) {
  const Variant clamped = score([](Expr s, const At& at) { return s + kBias.clamped(at.query - at.key); });
  expect_proven(clamped, {{3}}, Problem::uniform(1, 1, 1, 100, 100));
}

TEST(Reads, PositionsFollowOffsets) {
  const Variant by_position = score([](Expr s, const At& at) { return s + kBias(at.query); });
  Problem problem = Problem::uniform(1, 1, 1, 4, 100);
  expect_proven(by_position, {{100}}, problem);
  expect_refused(by_position, {{99}}, problem, ErrorCode::invalid_argument, {"is 99", "query_index 3"});
  problem.sequences[0].query_offset = -1;
  expect_refused(by_position, {{100}}, problem, ErrorCode::invalid_argument, {"query_index 0"});
}

TEST(Reads, EverySequenceAndHeadCounts) {
  const std::int64_t s_q[] = {4, 9}, s_kv[] = {4, 9};
  const Variant by_token = score([](Expr s, const At& at) { return s + kBias(at.key_token); });
  expect_proven(by_token, {{13}}, Problem::packed(2, 2, s_q, s_kv));
  expect_refused(by_token, {{12}}, Problem::packed(2, 2, s_q, s_kv), ErrorCode::invalid_argument, {"sequence 1"});
  const Variant by_head = score([](Expr s, const At& at) { return s + kBias(at.head); });
  expect_proven(by_head, {{2}}, Problem::packed(2, 2, s_q, s_kv));
  expect_refused(by_head, {{1}}, Problem::packed(2, 2, s_q, s_kv), ErrorCode::invalid_argument, {"head 1"});
}

TEST(Reads, ValuesOfTablesCountByTheirDeclaredRange) {
  const Table documents("documents", DType::int32, 1);
  const auto by_document = [](const Table& table) {
    return score([&](Expr s, const At& at) { return s + kBias(table(at.key)); });
  };
  const Problem problem = Problem::uniform(1, 1, 1, 10, 10);
  expect_refused(by_document(documents), {{10}, {4}}, problem, ErrorCode::unsupported, {"bias", "documents[key]"});
  expect_proven(by_document(documents.values_in(0, 3)), {{10}, {4}}, problem);
  expect_refused(by_document(documents.values_in(0, 4)), {{10}, {4}}, problem, ErrorCode::unsupported, {"0 to 3"});
  const std::int32_t ids[] = {0, 0, 0, 1, 1, 1, 2, 2, 3, 3};
  const Table frozen = Table::frozen("documents", ConstTensor(ids, DType::int32, {10}));
  expect_proven(by_document(frozen), {{}, {4}}, problem);
  expect_refused(by_document(frozen), {{}, {3}}, problem, ErrorCode::invalid_argument, {"is 3", "key_index 8"});
}

TEST(Reads, ParametersCountByTheirDeclaredRange) {
  const auto shifted = [](const Parameter& shift) {
    return score([&](Expr s, const At& at) { return s + kBias(at.key + shift); });
  };
  const Problem problem = Problem::uniform(1, 1, 1, 10, 10);
  expect_proven(shifted(Parameter::integer("shift", 0, 5)), {{15}}, problem);
  expect_refused(shifted(Parameter::integer("shift", 0, 6)), {{15}}, problem, ErrorCode::unsupported, {"9 to 15"});
  expect_refused(shifted(Parameter::integer("shift")), {{15}}, problem, ErrorCode::unsupported, {"bias"});
}

TEST(Reads, TheMaskItselfReadsInside) {
  const Table mask("mask", DType::boolean, 2);
  const Variant dense = keep([&](const At& at) { return mask(at.query_index, at.key_index); });
  expect_proven(dense, {{7, 9}}, Problem::uniform(1, 1, 1, 7, 9));
  expect_refused(dense, {{7, 8}}, Problem::uniform(1, 1, 1, 7, 9), ErrorCode::invalid_argument,
                 {"mask", "index 2", "key_index", "is 8"});
}

TEST(Reads, SinksAreReadForEveryRow) {
  const Variant with_sink = sink([](const At& at) { return kBias(at.head); });
  expect_proven(with_sink, {{4}}, Problem::uniform(1, 4, 2, 3, 3));
  expect_refused(with_sink, {{3}}, Problem::uniform(1, 4, 2, 3, 3), ErrorCode::invalid_argument, {"sink", "head 3"});
}

TEST(Reads, EmptyProblemsReadNothing) {
  expect_proven(relative_bias(), {{0}}, Problem::uniform(1, 1, 1, 0, 5));
  expect_proven(relative_bias(), {{0}}, Problem::uniform(0, 1, 1, 5, 5));
}

TEST(Reads, EmptyTablesHaveNoInside) {
  expect_refused(causal() & relative_bias(), {{0}}, Problem::uniform(1, 1, 1, 5, 5), ErrorCode::invalid_argument,
                 {"bias"});
}

TEST(Reads, WrongExtentsAreNamed) {
  const Problem problem = Problem::uniform(1, 1, 1, 5, 5);
  expect_refused(relative_bias(), {}, problem, ErrorCode::invalid_argument, {"expected 1"});
  expect_refused(relative_bias(), {{5, 5}}, problem, ErrorCode::invalid_argument, {"bias", "2 extents", "expected 1"});
  expect_refused(relative_bias(), {{-1}}, problem, ErrorCode::invalid_argument, {"bias", "-1"});
}

}  // namespace
}  // namespace tilewise
