#include "jit/key.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>

#include "jit/byte_stream.h"

namespace tilewise::jit {
namespace {

// Begins what is hashed. A change in how programs are compiled (the options that Tilewise adds itself, say) raises the
// number, so that no older entry is taken for a newer one.
constexpr const char* kScheme = "tilewise program 1";

}  // namespace

std::string Key::hex() const {
  std::string text;
  for (std::uint8_t byte : bytes) text += fmt::format("{:02x}", byte);
  return text;
}

Key key_of(const Program& program) {
  // Every string carries its length and every list its count, so no two programs give the same bytes.
  ByteWriter content;
  content.text(kScheme);
  content.text(program.architecture.name());
  content.text(program.name);
  content.text(program.source);
  const std::vector<const Header*> headers = headers_used(program);
  content.u64(headers.size());
  for (const Header* header : headers) {
    content.text(header->name);
    content.text(header->text);
  }
  for (const std::vector<std::string>* list : {&program.options, &program.kernels}) {
    content.u64(list->size());
    for (const std::string& item : *list) content.text(item);
  }

  // The canonical form is big endian on every machine.
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits(content.bytes().data(), content.bytes().size()));
  Key key;
  std::copy_n(canonical.digest, key.bytes.size(), key.bytes.begin());
  return key;
}

}  // namespace tilewise::jit
