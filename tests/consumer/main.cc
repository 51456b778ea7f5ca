// Uses the installed library by its public headers alone.
#include <tilewise/error.h>

#include <cstdio>
#include <cstring>

int main() {
  const tilewise::Error error(tilewise::ErrorCode::parse, "from the consumer");
  std::printf("%s: %s\n", tilewise::to_string(error.code()), error.what());
  return std::strcmp(tilewise::to_string(error.code()), "parse") == 0 ? 0 : 1;
}
