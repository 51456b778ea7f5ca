// For tokenizer_test.py: tokens of texts and texts of tokens.
//
// Usage: tokenize <tokenizer file> <texts> <answers> plain|control
//
// Texts and answers are records: a 32-bit count, then as many bytes, or 32-bit tokens. For each text the answers hold
// its tokens (those that the file puts around it among them; control tokens
// are read with `control`) and the text that those decode to, control tokens left
// out.
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>

#include "io/mapped_file.h"
#include "io/tokenizer/tokenizer.h"

namespace {

using tilewise::io::TokenId;
using tilewise::io::Tokenizer;

void put(std::ofstream& out, const void* data, std::size_t count, std::size_t size) {
  const auto number = static_cast<std::uint32_t>(count);
  out.write(reinterpret_cast<const char*>(&number), sizeof(number));
  out.write(static_cast<const char*>(data), static_cast<std::streamsize>(count * size));
}

int run(const std::string& path, const std::string& texts_path, const std::string& answers_path, bool parse_control) {
  const bool json = path.ends_with(".json");
  const std::unique_ptr<const Tokenizer> tokenizer =
      json ? tilewise::io::load_tokenizer_json(path) : tilewise::io::load_tokenizer(tilewise::io::GgufFile(path));
  const tilewise::io::MappedFile texts(texts_path);
  std::ofstream answers(answers_path, std::ios::binary);
  for (std::string_view left = texts.text(); !left.empty();) {
    std::uint32_t size = 0;
    std::memcpy(&size, left.data(), sizeof(size));
    const std::string_view text = left.substr(sizeof(size), size);
    left.remove_prefix(sizeof(size) + size);
    const std::vector<TokenId> ids = tokenizer->encode(text, {.parse_control = parse_control});
    const std::string decoded = tokenizer->decode(ids);
    put(answers, ids.data(), ids.size(), sizeof(TokenId));
    put(answers, decoded.data(), decoded.size(), 1);
  }
  return answers.flush() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  try {
    return run(argv[1], argv[2], argv[3], std::string(argv[4]) == "control");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
