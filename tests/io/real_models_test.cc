// Real files: what their models' cards say is what is read. Skipped where TILEWISE_MODELS names no folder.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "io/dequantize.h"
#include "io/gguf.h"
#include "io/safetensors.h"
#include "tests/with_models.h"
#include "tilewise/model.h"

namespace tilewise::io {
namespace {

class RealModels : public WithModels {};

/// Root of the mean square of a tensor's elements, which are all finite.
double magnitude(const FileTensor& tensor) {
  std::vector<float> row(static_cast<std::size_t>(tensor.columns()));
  double sum = 0;
  for (std::int64_t i = 0; i < tensor.rows(); ++i) {
    read_rows(tensor, i, 1, row.data());
    for (const float value : row) {
      EXPECT_TRUE(std::isfinite(value)) << tensor.name;
      sum += static_cast<double>(value) * static_cast<double>(value);
    }
  }
  return std::sqrt(sum / static_cast<double>(tensor.rows() * tensor.columns()));
}

TEST_F(RealModels, SmolLm2) {
  const GgufFile file(smollm());
  EXPECT_EQ(file.string("general.architecture"), "llama");
  EXPECT_EQ(file.integer("llama.block_count", 1, 1000), 30);
  EXPECT_EQ(file.integer("llama.attention.head_count_kv", 1, 1000), 3);
  EXPECT_EQ(file.real("llama.rope.freq_base"), 100000.0);
  EXPECT_EQ(file.strings("tokenizer.ggml.tokens").size(), 49152u);
  const FileTensor& embedding = file.tensor("token_embd.weight");
  EXPECT_EQ(embedding.storage, Storage::q8_0);
  EXPECT_EQ(embedding.shape, (std::vector<std::int64_t>{49152, 576}));
  int q4_1 = 0;
  for (const FileTensor& tensor : file.tensors()) {
    q4_1 += tensor.storage == Storage::q4_1 ? 1 : 0;
    // Weights of a trained network of this size lie well within these bounds; misread blocks do not.
    const double root_mean_square = magnitude(tensor);
    EXPECT_GT(root_mean_square, 1e-3) << tensor.name;
    EXPECT_LT(root_mean_square, 20.0) << tensor.name;
  }
  EXPECT_EQ(q4_1, 30 * 7);
}

TEST_F(RealModels, MiniLm) {
  const SafetensorsFile file(minilm());
  const FileTensor& words = file.tensor("embeddings.word_embeddings.weight");
  EXPECT_EQ(words.shape, (std::vector<std::int64_t>{30522, 384}));
  EXPECT_EQ(words.storage, Storage::float32);
  EXPECT_LT(magnitude(words), 1.0);
  EXPECT_NE(file.find_tensor("encoder.layer.5.output.LayerNorm.weight"), nullptr);
}

TEST_F(RealModels, AreInspected) {
  const ModelFile llama = inspect_model(smollm());
  EXPECT_EQ(llama.format, "GGUF version 3");
  EXPECT_EQ(llama.architecture, "llama");
  // Embeddings, 30 blocks of four attention matrices, three of the MLP and two norms, and the last norm.
  EXPECT_EQ(llama.parameters, 49152 * 576 + 30 * (2 * 576 * (576 + 192) + 3 * 576 * 1536 + 2 * 576) + 576);
  EXPECT_EQ(inspect_model(minilm()).format, "safetensors");
}

}  // namespace
}  // namespace tilewise::io
