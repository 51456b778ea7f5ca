// Files changed at random: each is read and used, or refused with an Error; nothing else happens, which the sanitizers
// watch too. Each format has 4,000 inputs here; TILEWISE_FUZZ_INPUTS asks for more (tools/fuzz_long).
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <random>

#include "io/dequantize.h"
#include "io/safetensors.h"
#include "io/tokenizer/tokenizer.h"
#include "tests/io/small_tokenizers.h"
#include "tilewise/error.h"

namespace tilewise::io {
namespace {

int inputs() {
  const char* asked = std::getenv("TILEWISE_FUZZ_INPUTS");  // NOLINT(concurrency-mt-unsafe): no thread sets it
  return asked == nullptr ? 4000 : std::atoi(asked);        // NOLINT(cert-err34-c): a developer's own
}

/// One to eight changes, of those that parsers trip over: bits, lengths, cuts, repetitions.
std::string mutated(std::string bytes, std::mt19937_64& random) {
  const auto below = [&](std::size_t count) { return static_cast<std::size_t>(random() % count); };
  static constexpr std::uint64_t kNumbers[] = {
      0, 1, 2, 31, 32, 127, 255, 256, 65535, 1u << 31, ~0u, 1ull << 32, 1ull << 62, 1ull << 63, ~0ull, ~0ull - 7};
  for (std::size_t change = 1 + below(8); change > 0 && !bytes.empty(); --change) {
    const std::size_t at = below(bytes.size()), size = std::min(bytes.size() - at, 1 + below(16));
    switch (below(7)) {
      case 0: bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8))); break;
      case 1: bytes[at] = static_cast<char>(random()); break;
      case 2: {
        const std::uint64_t number = kNumbers[below(std::size(kNumbers))];
        std::memcpy(bytes.data() + at, &number, std::min<std::size_t>(bytes.size() - at, random() % 2 == 0 ? 4 : 8));
        break;
      }
      case 3: bytes.erase(at, size); break;
      case 4: bytes.insert(at, bytes.substr(below(bytes.size()), 1 + below(64))); break;
      case 5: bytes.replace(at, size, std::string(size, static_cast<char>(random()))); break;
      default:
        if (below(8) == 0) bytes.resize(at);
    }
  }
  return bytes;
}

/// Uses a file that was read as a model would.
void use(const std::vector<FileTensor>& tensors) {
  for (const FileTensor& tensor : tensors) {
    if (!reads_as_float32(tensor.storage) || tensor.rows() == 0 || tensor.bytes.empty()) continue;
    std::vector<float> row(static_cast<std::size_t>(tensor.columns()));
    read_rows(tensor, tensor.rows() - 1, 1, row.data());
  }
}

void use(const Tokenizer& tokenizer) {
  const auto ids = tokenizer.encode("hello w0rld <|end|> \xF0\x9F\x98\x80\xFF [CLS] playing", {.parse_control = true});
  for (const TokenId id : ids) ASSERT_TRUE(tokenizer.has(id));
  tokenizer.decode(ids, true);
}

/// A file that no disk holds, so that thousands of them take no time.
class MemoryFile {
 public:
  explicit MemoryFile(const std::string& bytes) : handle_(memfd_create("input", 0)) {
    EXPECT_EQ(::write(handle_, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  }
  ~MemoryFile() { close(handle_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::string path() const { return fmt::format("/proc/self/fd/{}", handle_); }

 private:
  int handle_;
};

/// Reads `seed` changed in `inputs()` ways; at least one must be read and one refused, or the test shows nothing.
void fuzz(const std::string& seed, const std::function<void(const std::string& path)>& read) {
  read(MemoryFile(seed).path());
  int refused = 0, number = 0;
  for (; number < inputs() && !::testing::Test::HasFatalFailure(); ++number) {
    std::mt19937_64 random(static_cast<std::uint64_t>(number));
    const MemoryFile file(mutated(seed, random));
    try {
      read(file.path());
    } catch (const Error&) {
      ++refused;
    } catch (const std::exception& error) {
      FAIL() << "input " << number << " made it throw something else: " << error.what();
    }
  }
  EXPECT_GT(refused, 0);
  EXPECT_LT(refused, number);
}

TEST(Fuzz, Gguf) {
  const TemporaryFolder folder;
  std::vector<GgufTensorSource> tensors;
  for (const Storage storage : {Storage::float32, Storage::q4_1, Storage::q8_0, Storage::q6_k, Storage::bfloat16}) {
    GgufTensorSource tensor{info(storage).name, storage, {2, 256}};
    tensor.fill = [](std::int64_t, std::span<std::byte> out) { std::fill(out.begin(), out.end(), std::byte{7}); };
    tensors.push_back(tensor);
  }
  const std::vector<float> reals{1, 2};
  write_gguf(folder / "seed",
             {{"general.architecture", GgufValue::of_string("llama")},
              {"general.alignment", GgufValue::of_uint32(32)},
              {"llama.block_count", GgufValue::of_uint32(2)},
              {"llama.rope.freq_base", GgufValue::of_float32(1e4F)},
              {"strings", GgufValue::of_strings({"one", "two"})},
              {"reals", GgufValue::of_floats(reals)}},
             tensors);
  fuzz(bytes_of_file(folder / "seed"), [](const std::string& path) {
    const GgufFile file(path);
    use(file.tensors());
    if (file.has("llama.block_count")) file.integer("llama.block_count", 0, 100);
    if (file.has("reals")) file.reals("reals");
    if (file.has("strings")) file.strings("strings");
  });
}

TEST(Fuzz, Safetensors) {
  Bytes seed;
  seed.text(
      R"({"__metadata__":{"format":"pt"},"a.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},)"
      R"("b":{"dtype":"BF16","shape":[4],"data_offsets":[16,24]},"c":{"dtype":"I64","shape":[1],"data_offsets":[24,32]}})");
  seed.raw(std::string(32, '\7'));
  fuzz(seed.bytes(), [](const std::string& path) { use(SafetensorsFile(path).tensors()); });
}

TEST(Fuzz, TokenizersInGguf) {
  for (const GgufMetadata& settings : {small_settings(), small_settings("llama-bpe"), small_sentence_piece()}) {
    const TemporaryFolder folder;
    GgufMetadata complete = settings;
    if (settings[1].second.type == GgufType::string) {
      complete.emplace_back("tokenizer.ggml.bos_token_id", GgufValue::of_uint32(kEnd));
    }
    write_gguf(folder / "seed", complete, {});
    fuzz(bytes_of_file(folder / "seed"), [](const std::string& path) { use(*load_tokenizer(GgufFile(path))); });
  }
}

TEST(Fuzz, TokenizerJson) {
  for (const auto& json : {small_json(), small_word_piece()}) {
    fuzz(json.dump(), [](const std::string& path) { use(*load_tokenizer_json(path)); });
  }
}

}  // namespace
}  // namespace tilewise::io
