#include "jit/entry.h"

#include <xxhash.h>

#include "jit/byte_stream.h"

namespace tilewise::jit {
namespace {

constexpr std::string_view kMagic = "TILEWISE";
constexpr std::uint32_t kFormat = 1;

void put(ByteWriter& out, const KernelInfo& kernel) {
  out.text(kernel.name);
  out.text(kernel.symbol);
  out.u32(kernel.resources.has_value());
  const Resources resources = kernel.resources.value_or(Resources());
  out.u32(resources.registers);
  out.u32(resources.spill_store_bytes);
  out.u32(resources.spill_load_bytes);
  out.u32(resources.stack_bytes);
  out.u64(resources.shared_bytes);
}

KernelInfo get_kernel(ByteReader& in) {
  KernelInfo kernel;
  kernel.name = in.text();
  kernel.symbol = in.text();
  const bool stated = in.u32() != 0;
  Resources resources;
  resources.registers = static_cast<int>(in.u32());
  resources.spill_store_bytes = static_cast<int>(in.u32());
  resources.spill_load_bytes = static_cast<int>(in.u32());
  resources.stack_bytes = static_cast<int>(in.u32());
  resources.shared_bytes = static_cast<std::int64_t>(in.u64());
  if (stated) kernel.resources = resources;
  return kernel;
}

std::string checksum(std::string_view bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  ByteWriter out;
  out.u64(hash.low64);
  out.u64(hash.high64);
  return out.bytes();
}

}  // namespace

std::string encode_entry(const Key& key, const Binary& binary) {
  ByteWriter body;
  body.text(key.hex());
  body.text(binary.compiler);
  body.text(binary.architecture);
  body.text(binary.log);
  body.u64(binary.kernels.size());
  for (const KernelInfo& kernel : binary.kernels) put(body, kernel);
  body.text(binary.cubin);

  ByteWriter head;
  head.u32(kFormat);
  return std::string(kMagic) + head.bytes() + checksum(body.bytes()) + body.bytes();
}

DecodedEntry decode_entry(const Key& key, std::string_view bytes) {
  ByteReader in(bytes);
  if (in.raw(kMagic.size()) != kMagic) return {std::nullopt, "it is not a cache entry"};
  if (in.u32() != kFormat) return {std::nullopt, "it has another version's format"};
  const std::string_view stated = in.raw(checksum("").size());
  if (!in.ok() || stated != checksum(in.rest())) return {std::nullopt, "its checksum does not match (torn or damaged)"};
  if (in.text() != key.hex()) return {std::nullopt, "it holds another program"};

  Binary binary;
  binary.compiler = in.text();
  binary.architecture = in.text();
  binary.log = in.text();
  // An untrue count ends with the bytes: nothing is reserved by it.
  const std::uint64_t kernels = in.u64();
  for (std::uint64_t index = 0; index < kernels && in.ok(); ++index) binary.kernels.push_back(get_kernel(in));
  binary.cubin = in.text();
  if (!in.ok() || !in.rest().empty()) return {std::nullopt, "its fields do not add up"};
  return {std::move(binary), ""};
}

}  // namespace tilewise::jit
