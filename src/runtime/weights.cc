#include "runtime/weights.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <optional>

#include "core/fail.h"
#include "io/dequantize.h"

namespace tilewise::runtime {
namespace {

struct KindOfStorage {
  io::Storage storage;
  nn::WeightKind kind;
};

constexpr std::array<KindOfStorage, nn::kWeightKinds> kKinds{{
    {io::Storage::float32, nn::WeightKind::float32},
    {io::Storage::float16, nn::WeightKind::float16},
    {io::Storage::bfloat16, nn::WeightKind::bfloat16},
    {io::Storage::q4_0, nn::WeightKind::q4_0},
    {io::Storage::q4_1, nn::WeightKind::q4_1},
    {io::Storage::q5_0, nn::WeightKind::q5_0},
    {io::Storage::q5_1, nn::WeightKind::q5_1},
    {io::Storage::q8_0, nn::WeightKind::q8_0},
    {io::Storage::q4_k, nn::WeightKind::q4_k},
    {io::Storage::q5_k, nn::WeightKind::q5_k},
    {io::Storage::q6_k, nn::WeightKind::q6_k},
}};

std::string supported_kinds() {
  std::vector<std::string_view> names;
  for (const KindOfStorage& each : kKinds) names.emplace_back(io::info(each.storage).name);
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace

Weights::Weights(const ModelSource& source, nn::Precision precision, Executor& executor)
    : source_(source), precision_(precision), executor_(executor) {
  owners_.push_back(source.owner());
}

const io::FileTensor& Weights::tensor(const std::string& name, std::span<const std::int64_t> shape) {
  const io::FileTensor* found = source_.find_tensor(name);
  if (found == nullptr)
    fail(ErrorCode::parse, "{}: has no tensor {}, [{}]", source_.path(), name, fmt::join(shape, ", "));
  if (!std::ranges::equal(found->shape, shape)) {
    fail(ErrorCode::parse, "{}: tensor {} is [{}]; expected [{}], by the settings", source_.path(), name,
         fmt::join(found->shape, ", "), fmt::join(shape, ", "));
  }
  stored(*found);
  used_.insert(found->name);
  return *found;
}

nn::WeightMatrix Weights::stored(const io::FileTensor& tensor) const {
  const auto* found = std::ranges::find(kKinds, tensor.storage, &KindOfStorage::storage);
  if (found == kKinds.end()) {
    fail(ErrorCode::unsupported, "{}: tensor {} is stored as {}; weights can be {}", source_.path(), tensor.name,
         io::info(tensor.storage).name, supported_kinds());
  }
  return {found->kind, tensor.rows(), tensor.columns(), tensor.bytes.data()};
}

nn::Linear Weights::matrix(const std::string& name, std::int64_t rows, std::int64_t columns) {
  return rows_of(name, rows, columns, 0, rows);
}

nn::Linear Weights::rows_of(const std::string& name, std::int64_t all_rows, std::int64_t columns, std::int64_t first,
                            std::int64_t rows) {
  nn::WeightMatrix matrix = stored(tensor(name, std::array{all_rows, columns}));
  const nn::BlockSize block = nn::block_size(matrix.kind);
  matrix.stored += first * (columns / block.elements * block.bytes);
  matrix.rows = rows;
  return {matrix, precision_, executor_};
}

nn::Linear Weights::transposed_rows_of(const std::string& name, std::int64_t all_rows, std::int64_t columns,
                                       std::int64_t first, std::int64_t rows) {
  const io::FileTensor& stored = tensor(name, std::array{columns, all_rows});
  auto copy = std::make_shared<std::vector<float>>(static_cast<std::size_t>(rows * columns));
  std::vector<float> line(static_cast<std::size_t>(all_rows));
  for (std::int64_t column = 0; column < columns; ++column) {
    io::read_rows(stored, column, 1, line.data());
    for (std::int64_t row = 0; row < rows; ++row) {
      (*copy)[static_cast<std::size_t>(row * columns + column)] = line[static_cast<std::size_t>(first + row)];
    }
  }
  owners_.push_back(copy);
  return {{nn::WeightKind::float32, rows, columns, reinterpret_cast<const std::byte*>(copy->data())},
          precision_,
          executor_};
}

std::vector<float> Weights::vector(const std::string& name, std::int64_t count) {
  const io::FileTensor& stored = tensor(name, std::array{count});
  std::vector<float> values(static_cast<std::size_t>(count));
  io::read_rows(stored, 0, 1, values.data());
  return values;
}

std::vector<float> Weights::vector_or_none(const std::string& name, std::int64_t count) {
  return has(name) ? vector(name, count) : std::vector<float>{};
}

std::vector<float> Weights::row(const std::string& name, std::int64_t rows, std::int64_t columns, std::int64_t row) {
  std::vector<float> values(static_cast<std::size_t>(columns));
  io::read_rows(tensor(name, std::array{rows, columns}), row, 1, values.data());
  return values;
}

nn::Projection Weights::projection(const std::string& name, std::int64_t outputs, std::int64_t inputs) {
  return {matrix(name + ".weight", outputs, inputs), vector_or_none(name + ".bias", outputs)};
}

nn::Norm Weights::norm(const std::string& name, nn::NormKind kind, double epsilon, std::int64_t width) {
  return {kind, static_cast<float>(epsilon), vector(name + ".weight", width), vector_or_none(name + ".bias", width)};
}

void Weights::expect_all_used(std::span<const std::string_view> ignored) const {
  for (const io::FileTensor& tensor : source_.tensors()) {
    if (used_.contains(tensor.name)) continue;
    if (std::ranges::any_of(ignored, [&](std::string_view end) { return tensor.name.ends_with(end); })) continue;
    fail(
        ErrorCode::unsupported,
        "{}: tensor {} has no place in the architecture {} as it is known here; the model has parts that would be left "
        "out",
        source_.path(), tensor.name, source_.architecture());
  }
}

}  // namespace tilewise::runtime
