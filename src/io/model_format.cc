#include "io/model_format.h"

#include <cstdint>

#include "core/fail.h"
#include "io/mapped_file.h"

namespace tilewise::io {

bool is_gguf(const std::string& path) {
  const MappedFile file(path);
  if (file.text().starts_with("GGUF")) return true;
  // A safetensors file begins with its header's length, then the header, which is a JSON object.
  constexpr std::size_t kHeaderBegin = sizeof(std::uint64_t);
  if (file.text().size() > kHeaderBegin && file.text()[kHeaderBegin] == '{') return false;
  fail(ErrorCode::parse, "{}: neither GGUF (it would begin with 'GGUF') nor safetensors (a length, then '{{')", path);
}

}  // namespace tilewise::io
