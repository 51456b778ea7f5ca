// The public quantize_model().
#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <optional>

#include "core/fail.h"
#include "io/dequantize.h"
#include "io/gguf_writer.h"
#include "io/model_format.h"
#include "io/quantize.h"
#include "runtime/gguf_of_safetensors.h"
#include "tilewise/quantize.h"

namespace tilewise {
namespace {

using io::Storage;
using runtime::RenamedTensor;

// GGUF's numbers: "mostly Q8_0", and of the blocks' layout.
constexpr std::uint32_t kFileType = 7, kQuantizationVersion = 2;

bool is_float(Storage storage) {
  return storage == Storage::float64 || storage == Storage::float32 || storage == Storage::float16 ||
         storage == Storage::bfloat16;
}

/// Matrices of products, and the embedding. Positions and types of tokens are added, not multiplied: each of their
/// errors would go into every token as it is, and they are small.
bool becomes_q8_0(const RenamedTensor& renamed) {
  const std::vector<std::int64_t> shape = renamed.shape();
  return is_float(renamed.tensor->storage) && shape.size() == 2 &&
         shape[1] % io::info(Storage::q8_0).block_elements == 0 && shape[1] > 0 &&
         renamed.name.find("position_embd") == std::string::npos &&
         renamed.name.find("token_types") == std::string::npos;
}

/// Sums of a tensor's errors, and what is told of it.
struct Progress {
  QuantizedTensor tensor;
  std::int64_t rows_left = 0;
  double squares = 0, error_squares = 0;
};

class Quantizer {
 public:
  Quantizer(QuantizeReport& report, const std::function<void(const QuantizedTensor&)>& told)
      : report_(report), told_(told) {}

  /// What the file is to hold, or nothing for a tensor that the model does not need.
  std::optional<io::GgufTensorSource> source_of(const RenamedTensor& renamed) {
    const io::FileTensor& tensor = *renamed.tensor;
    auto progress = std::make_shared<Progress>();
    progress->tensor = {.name = renamed.name.empty() ? std::string(tensor.name) : renamed.name,
                        .from = renamed.is_made ? "settings" : io::info(tensor.storage).name,
                        .elements = tensor.rows() * tensor.columns(),
                        .bytes_from = renamed.is_made ? 0 : static_cast<std::int64_t>(tensor.bytes.size())};
    if (renamed.name.empty()) {
      progress->tensor.to = "left out";
      tell(*progress);
      return std::nullopt;
    }
    const std::vector<std::int64_t> shape = renamed.shape();
    const bool rounds = becomes_q8_0(renamed);
    const bool is_moved = renamed.is_transposed || renamed.pairs_of > 0;
    const Storage to = rounds ? Storage::q8_0 : is_moved ? Storage::float32 : tensor.storage;
    progress->tensor.to = io::info(to).name;
    progress->tensor.bytes_to = io::bytes_of(to, progress->tensor.elements).value_or(0);
    const std::int64_t columns = shape.empty() ? 1 : shape.back();
    progress->rows_left = columns > 0 ? progress->tensor.elements / columns : 0;
    if (progress->rows_left == 0) tell(*progress);  // nobody will ask for its rows
    io::GgufTensorSource source{renamed.name, to, shape};
    if (!rounds && !is_moved) {
      source.fill = [this, progress, columns, fill = io::copy_of(tensor).fill, to](std::int64_t first, auto out) {
        fill(first, out);
        finish_rows(*progress, static_cast<std::int64_t>(out.size()) / *io::bytes_of(to, columns));
      };
      return source;
    }
    source.fill = [this, progress, columns, renamed, to](std::int64_t first, std::span<std::byte> out) {
      write_rows(renamed, to, columns, first, out, *progress);
    };
    return source;
  }

 private:
  void write_rows(const RenamedTensor& renamed, Storage to, std::int64_t columns, std::int64_t first,
                  std::span<std::byte> out, Progress& progress) {
    std::vector<float> row(static_cast<std::size_t>(columns)), read_back(row.size());
    const std::int64_t row_bytes = *io::bytes_of(to, columns);
    const std::int64_t rows = static_cast<std::int64_t>(out.size()) / row_bytes;
    for (std::int64_t i = 0; i < rows; ++i) {
      std::byte* place = out.data() + i * row_bytes;
      renamed.read_row(first + i, row.data());
      if (to == Storage::float32) {
        std::memcpy(place, row.data(), static_cast<std::size_t>(row_bytes));
        continue;
      }
      io::quantize_q8_0(row.data(), columns, place, renamed.name);
      io::dequantize(to, place, columns, read_back.data());
      for (std::size_t column = 0; column < row.size(); ++column) {
        const double value = static_cast<double>(row[column]);
        const double error = std::abs(value - static_cast<double>(read_back[column]));
        progress.tensor.largest_error = std::max(progress.tensor.largest_error, error);
        progress.squares += value * value;
        progress.error_squares += error * error;
      }
    }
    finish_rows(progress, rows);
  }

  void finish_rows(Progress& progress, std::int64_t rows) {
    progress.rows_left -= rows;
    if (progress.rows_left == 0) tell(progress);
  }

  void tell(Progress& progress) {
    if (progress.squares > 0) progress.tensor.relative_error = std::sqrt(progress.error_squares / progress.squares);
    report_.tensors.push_back(progress.tensor);
    if (told_) told_(progress.tensor);
  }

  QuantizeReport& report_;
  const std::function<void(const QuantizedTensor&)>& told_;
};

/// Settings of a GGUF file that are true of the written one.
void take_over(const io::GgufFile& file, runtime::OwnedMetadata& metadata) {
  for (const auto& [key, value] : file.metadata()) {
    if (key != "general.file_type" && key != "general.quantization_version") metadata.add(key, value);
  }
}

void expect_two_files(const std::string& from, const std::string& to) {
  std::error_code ignored;  // one of them is missing: then they differ
  if (std::filesystem::equivalent(from, to, ignored)) {
    fail_argument("'{}' is the file that is read; expected another one to write", to);
  }
}

QuantizeReport write(const std::string& from, const std::string& to, std::int64_t bytes_from,
                     runtime::OwnedMetadata& metadata, const std::vector<RenamedTensor>& tensors,
                     const std::function<void(const QuantizedTensor&)>& told) {
  metadata.add("general.file_type", io::GgufValue::of_uint32(kFileType));
  metadata.add("general.quantization_version", io::GgufValue::of_uint32(kQuantizationVersion));
  QuantizeReport report{.from = from, .to = to, .bytes_from = bytes_from};
  Quantizer quantizer(report, told);
  std::vector<io::GgufTensorSource> sources;
  for (const RenamedTensor& tensor : tensors) {
    if (auto source = quantizer.source_of(tensor)) sources.push_back(std::move(*source));
  }
  io::write_gguf(to, metadata.get(), sources);
  report.bytes_to = static_cast<std::int64_t>(std::filesystem::file_size(to));
  return report;
}

}  // namespace

QuantizeReport quantize_model(const std::string& from, const std::string& to,
                              const std::function<void(const QuantizedTensor&)>& told) {
  const auto folder = std::filesystem::path(from);
  const std::string path = std::filesystem::is_directory(folder) ? (folder / "model.safetensors").string() : from;
  expect_two_files(path, to);
  if (io::is_gguf(path)) {
    const io::GgufFile file(path);
    runtime::OwnedMetadata metadata;
    take_over(file, metadata);
    std::vector<RenamedTensor> tensors;
    for (const io::FileTensor& tensor : file.tensors()) tensors.push_back({std::string(tensor.name), &tensor});
    return write(from, to, static_cast<std::int64_t>(file.bytes()), metadata, tensors, told);
  }
  const runtime::ModelSource source(path);
  runtime::GgufForm form = runtime::gguf_form(source);
  const auto bytes = static_cast<std::int64_t>(std::filesystem::file_size(path));
  return write(from, to, bytes, form.metadata, form.tensors, told);
}

}  // namespace tilewise
