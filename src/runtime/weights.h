// A model file's tensors as weights.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nn/linear.h"
#include "nn/parts.h"
#include "runtime/model_source.h"

namespace tilewise::runtime {

/// Hands out tensors by name and shape, and keeps account of which were asked for. Each call throws Error(parse) naming
/// file and tensor where it is missing or of another shape, and Error(unsupported) where its type is none of weights.
class Weights {
 public:
  Weights(const ModelSource& source, nn::Precision precision, Executor& executor);

  bool has(const std::string& name) const { return source_.find_tensor(name) != nullptr; }

  /// A matrix [rows, columns].
  nn::Linear matrix(const std::string& name, std::int64_t rows, std::int64_t columns);

  /// Rows [first, first + rows) of a matrix [all_rows, columns].
  nn::Linear rows_of(const std::string& name, std::int64_t all_rows, std::int64_t columns, std::int64_t first,
                     std::int64_t rows);

  /// The same of the transpose: of a matrix that lies as [columns, all_rows], which is copied.
  nn::Linear transposed_rows_of(const std::string& name, std::int64_t all_rows, std::int64_t columns,
                                std::int64_t first, std::int64_t rows);

  /// A vector [count].
  std::vector<float> vector(const std::string& name, std::int64_t count);

  /// Likewise; empty where there is none of that name.
  std::vector<float> vector_or_none(const std::string& name, std::int64_t count);

  /// Row `row` of a matrix [rows, columns].
  std::vector<float> row(const std::string& name, std::int64_t rows, std::int64_t columns, std::int64_t row);

  /// `name`.weight [outputs, inputs], and `name`.bias [outputs] where there is one.
  nn::Projection projection(const std::string& name, std::int64_t outputs, std::int64_t inputs);

  /// `name`.weight and `name`.bias, as far as there is one, [width].
  nn::Norm norm(const std::string& name, nn::NormKind kind, double epsilon, std::int64_t width);

  /// Throws Error(unsupported) on a tensor that nobody asked for, unless it is, or ends with, one of `ignored`: a model
  /// with parts that the family does not know would compute something else.
  void expect_all_used(std::span<const std::string_view> ignored) const;

  /// What owns the memory that matrices are views of.
  std::vector<std::shared_ptr<const void>> owners() && { return std::move(owners_); }

 private:
  const io::FileTensor& tensor(const std::string& name, std::span<const std::int64_t> shape);
  nn::WeightMatrix stored(const io::FileTensor& tensor) const;

  const ModelSource& source_;
  nn::Precision precision_;
  Executor& executor_;
  std::set<std::string_view> used_;
  std::vector<std::shared_ptr<const void>> owners_;
};

}  // namespace tilewise::runtime
