#include "standard_case.h"

#include <cblas.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <random>

#include "tilewise/error.h"

namespace tilewise::cli {
namespace {

constexpr std::int64_t kBlock = 128;  // queries, or keys, of a product: 128 rows of 4096 weights are 2 MiB

/// One row of scores becomes weights.
[[gnu::always_inline]] inline void softmax_row(float* row, std::int64_t count) {
  float maximum = row[0];
  for (std::int64_t i = 1; i < count; ++i) maximum = std::max(maximum, row[i]);
  float sum = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    row[i] = std::exp(row[i] - maximum);
    sum += row[i];
  }
  const float factor = 1 / sum;
  for (std::int64_t i = 0; i < count; ++i) row[i] *= factor;
}

/// d_score = weight * (d_weight - delta), in place of d_weight.
[[gnu::always_inline]] inline void softmax_backward_row(const float* weights, float* row, std::int64_t count) {
  float delta = 0;
  for (std::int64_t i = 0; i < count; ++i) delta += weights[i] * row[i];
  for (std::int64_t i = 0; i < count; ++i) row[i] = weights[i] * (row[i] - delta);
}

/// Both, compiled for one instruction set; the compiler's own vector exponential does the rest.
struct RowLoops {
  void (*softmax)(float* row, std::int64_t count);
  void (*backward)(const float* weights, float* row, std::int64_t count);
};

#if defined(__x86_64__)
[[gnu::target("avx512f")]] void softmax_row_avx512(float* row, std::int64_t count) { softmax_row(row, count); }
[[gnu::target("avx512f")]] void backward_row_avx512(const float* weights, float* row, std::int64_t count) {
  softmax_backward_row(weights, row, count);
}
[[gnu::target("avx2,fma")]] void softmax_row_avx2(float* row, std::int64_t count) { softmax_row(row, count); }
[[gnu::target("avx2,fma")]] void backward_row_avx2(const float* weights, float* row, std::int64_t count) {
  softmax_backward_row(weights, row, count);
}
#endif

RowLoops row_loops() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return {softmax_row_avx512, backward_row_avx512};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return {softmax_row_avx2, backward_row_avx2};
#endif
  return {softmax_row, softmax_backward_row};
}

/// c [m, n] = alpha a b, row-major; `a_t`: a is stored [k, m]; `b_t`: b is stored [n, k].
void product(bool a_t, bool b_t, std::int64_t m, std::int64_t n, std::int64_t k, float alpha, const float* a,
             std::int64_t lda, const float* b, std::int64_t ldb, float* c, std::int64_t ldc) {
  const auto size = [](std::int64_t value) { return static_cast<blasint>(value); };
  cblas_sgemm(CblasRowMajor, a_t ? CblasTrans : CblasNoTrans, b_t ? CblasTrans : CblasNoTrans, size(m), size(n),
              size(k), alpha, a, size(lda), b, size(ldb), 0.0f, c, size(ldc));
}

}  // namespace

void StandardCase::Free::operator()(float* memory) const { std::free(memory); }

StandardCase::Buffer StandardCase::zeros(std::int64_t count) {
  const std::size_t bytes = (static_cast<std::size_t>(count) * 4 + 63) / 64 * 64;
  Buffer buffer(static_cast<float*>(std::aligned_alloc(64, bytes)));
  if (buffer == nullptr)
    throw Error(ErrorCode::out_of_memory, fmt::format("standard attention: {} bytes could not be had", bytes));
  std::memset(buffer.get(), 0, bytes);
  return buffer;
}

StandardCase::Buffer StandardCase::normal(std::int64_t count, unsigned seed) {
  Buffer buffer = zeros(count);
  std::mt19937 random(seed);
  std::normal_distribution<float> distribution;
  for (std::int64_t i = 0; i < count; ++i) buffer.get()[i] = distribution(random);
  return buffer;
}

StandardCase::StandardCase(std::int64_t h, std::int64_t s, std::int64_t d, Executor& executor)
    : h_(h), s_(s), d_(d), scale_(1 / std::sqrt(static_cast<float>(d))), executor_(executor) {
  openblas_set_num_threads(1);  // blocks run on the executor's threads, which tiled attention uses too
  q_ = normal(h * s * d, 1);
  k_ = normal(h * s * d, 2);
  v_ = normal(h * s * d, 3);
  d_o_ = normal(h * s * d, 4);
  for (Buffer* output : {&o_, &d_q_, &d_k_, &d_v_}) *output = zeros(h * s * d);
  weights_ = zeros(h * s * s);
  d_scores_ = zeros(h * s * s);
}

/// Calls body(head, begin, end) for each block of queries, or keys, of each head.
template <class Body>
void StandardCase::for_blocks(const Body& body) {
  const std::int64_t blocks = (s_ + kBlock - 1) / kBlock;
  executor_.parallel_for(h_ * blocks, [&](std::int64_t index, int) {
    const std::int64_t begin = index % blocks * kBlock;
    body(index / blocks, begin, std::min(begin + kBlock, s_));
  });
}

void StandardCase::forward_rows(std::int64_t head, std::int64_t begin, std::int64_t end) {
  const std::int64_t matrix = head * s_ * d_, row = matrix + begin * d_;
  float* weights = weights_.get() + (head * s_ + begin) * s_;
  product(false, true, end - begin, s_, d_, scale_, q_.get() + row, d_, k_.get() + matrix, d_, weights, s_);
  for (std::int64_t i = 0; i < end - begin; ++i) row_loops().softmax(weights + i * s_, s_);
  product(false, false, end - begin, d_, s_, 1, weights, s_, v_.get() + matrix, d_, o_.get() + row, d_);
}

/// d_scores and d_q of these queries.
void StandardCase::backward_rows(std::int64_t head, std::int64_t begin, std::int64_t end) {
  const std::int64_t matrix = head * s_ * d_, row = matrix + begin * d_, scores = (head * s_ + begin) * s_;
  float* d_scores = d_scores_.get() + scores;
  product(false, true, end - begin, s_, d_, 1, d_o_.get() + row, d_, v_.get() + matrix, d_, d_scores, s_);
  for (std::int64_t i = 0; i < end - begin; ++i)
    row_loops().backward(weights_.get() + scores + i * s_, d_scores + i * s_, s_);
  product(false, false, end - begin, d_, s_, scale_, d_scores, s_, k_.get() + matrix, d_, d_q_.get() + row, d_);
}

/// d_k and d_v of these keys.
void StandardCase::backward_keys(std::int64_t head, std::int64_t begin, std::int64_t end) {
  const std::int64_t matrix = head * s_ * d_, row = matrix + begin * d_, column = head * s_ * s_ + begin;
  product(true, false, end - begin, d_, s_, 1, weights_.get() + column, s_, d_o_.get() + matrix, d_, d_v_.get() + row,
          d_);
  product(true, false, end - begin, d_, s_, scale_, d_scores_.get() + column, s_, q_.get() + matrix, d_,
          d_k_.get() + row, d_);
}

void StandardCase::forward() {
  for_blocks([this](std::int64_t head, std::int64_t begin, std::int64_t end) { forward_rows(head, begin, end); });
}

void StandardCase::backward() {
  for_blocks([this](std::int64_t head, std::int64_t begin, std::int64_t end) { backward_rows(head, begin, end); });
  for_blocks([this](std::int64_t head, std::int64_t begin, std::int64_t end) { backward_keys(head, begin, end); });
}

}  // namespace tilewise::cli
