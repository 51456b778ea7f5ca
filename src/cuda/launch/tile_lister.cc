#include "cuda/launch/tile_lister.h"

#include <array>

#include "core/fail.h"
#include "core/round_up.h"
#include "cuda/launch/kernel_text.h"
#include "variant/cuda_mask_text.h"

namespace tilewise::cuda {
namespace {

constexpr unsigned kThreads = 256;

// The text of the mask follows the device folder's bounds and the variant's own text, so it is a header of its own.
constexpr const char* kMaskHeader = R"cuda(
namespace tilewise::cuda {

struct KernelMask {
  using Arguments = variant::Arguments;
  using Sequence = variant::Sequence;
  using Uniform = variant_bounds::UniformBounds;
  using Query = variant_bounds::QueryBounds;
  using Key = variant_bounds::KeyBounds;

  __device__ static Sequence sequence_of(const SequenceShape& shape, int batch, int head, int kv_head) {
    return {shape.queries,     shape.keys,      shape.query_offset, shape.key_offset,
            shape.query_token, shape.key_token, batch,              head,
            kv_head};
  }
  __device__ static Uniform uniform_bounds(const Arguments& arguments, const Sequence& sequence) {
    return variant_bounds::uniform_bounds(arguments, sequence);
  }
  __device__ static Query query_bounds(const Arguments& arguments, const Sequence& sequence, const bounds::Ints& index) {
    return variant_bounds::query_bounds(arguments, sequence, index);
  }
  __device__ static Key key_bounds(const Arguments& arguments, const Sequence& sequence, const bounds::Ints& index) {
    return variant_bounds::key_bounds(arguments, sequence, index);
  }
  __device__ static bounds::Truth kept(const Arguments& arguments, const Sequence& sequence, const Uniform& uniform,
                                       const Query& query, const Key& key, const bounds::Ints& query_index,
                                       const bounds::Ints& key_index) {
    return variant_bounds::kept(arguments, sequence, uniform, query, key, query_index, key_index);
  }
};

}  // namespace tilewise::cuda
)cuda";

constexpr const char* kSource = R"cuda(#include "mask.h"

extern "C" __global__ void __launch_bounds__(256)
    classify(const __grid_constant__ tilewise::cuda::ClassifyArguments arguments,
             const __grid_constant__ variant::Arguments bound) {
  tilewise::cuda::RowClassifier<tilewise::cuda::KernelMask>(arguments, bound).run();
}
extern "C" __global__ void order(const __grid_constant__ tilewise::cuda::ClassifyArguments arguments, int rows) {
  tilewise::cuda::order_rows(arguments, rows);
}
extern "C" __global__ void number(const __grid_constant__ tilewise::cuda::ClassifyArguments arguments, int rows) {
  tilewise::cuda::number_turns(arguments, rows);
}
)cuda";

}  // namespace

jit::Program tile_program(const Variant& variant, const variant::CudaText& text, const std::vector<bool>& removes,
                          const jit::Architecture& architecture) {
  jit::Program program;
  program.name = "classify.cu";
  program.source = kSource;
  program.headers = device_headers();
  program.headers.push_back({"mask.h", "#pragma once\n#include \"classify.h\"\n#include \"number_turns.h\"\n" +
                                           text.source + variant::cuda_mask_text(variant, removes) + kMaskHeader});
  // Without contraction, bounds have the host's very bits.
  program.options = {"--std=c++17", "--fmad=false"};
  program.architecture = architecture;
  program.kernels = {"classify", "order", "number"};
  return program;
}

TileLister::TileLister(jit::Compiler& compiler, const std::shared_ptr<const jit::Context>& context,
                       const Variant& variant, const tiles::Mask& mask)
    : text_(variant::cuda_text(variant)),
      follows_head_(mask.follows_head),
      module_(jit::load_program(compiler, tile_program(variant, text_, mask.removes, context->device().architecture()),
                                context)),
      classify_(module_->kernel("classify")),
      order_(module_->kernel("order")),
      number_(module_->kernel("number")) {}

ListExtent TileLister::extent(std::int64_t b, std::int64_t h_q, std::int64_t s_q, std::int64_t s_kv, ListTile tile,
                              bool by_key) const {
  const std::int64_t query_tiles = ceil_div(s_q, tile.queries), key_tiles = ceil_div(s_kv, tile.keys);
  const ListExtent extent{b, follows_head_ ? h_q : 1, by_key ? key_tiles : query_tiles,
                          by_key ? query_tiles : key_tiles};
  constexpr std::int64_t kMostTiles = 1 << 18;  // what an entry has bits for
  if (extent.capacity > kMostTiles) {
    fail(ErrorCode::unsupported,
         "s_q is {} and s_kv {}: a mask's lists hold up to {} tiles a row, here {} queries by {} keys each", s_q, s_kv,
         kMostTiles, tile.queries, tile.keys);
  }
  return extent;
}

TileLists TileLister::make(const SequenceShape* sequences, const ListExtent& extent, ListTile tile, bool by_key,
                           std::int64_t heads_per_kv, int* tiles, int* count, RowStart* order, int* turns,
                           const std::vector<std::byte>& bound, jit::StreamHandle stream) const {
  ClassifyArguments arguments{};
  arguments.sequences = sequences;
  arguments.lists = {
      tiles, count, order, extent.capacity, extent.heads * extent.rows, extent.heads == 1 ? 0 : extent.rows, 0, 1,
      0,     0,     turns};
  arguments.tiles = tiles, arguments.count = count, arguments.order = order, arguments.turns = turns;
  arguments.tile_queries = static_cast<int>(tile.queries);
  arguments.tile_keys = static_cast<int>(tile.keys);
  arguments.part_queries = static_cast<int>(tile.part_queries);
  arguments.part_keys = static_cast<int>(tile.part_keys);
  arguments.by_key = by_key;
  arguments.ends_with_queries = tile.ends_with_queries;
  arguments.heads_per_kv = static_cast<int>(heads_per_kv);
  if (extent.lists() == 0) return arguments.lists;
  const auto rows = static_cast<unsigned>(extent.rows), heads = static_cast<unsigned>(extent.heads);
  const auto b = static_cast<unsigned>(extent.b);
  // The driver copies from these pointers and does not write through them.
  std::array<void*, 2> pointers = {&arguments, const_cast<std::byte*>(bound.data())};
  classify_.launch({.grid = {rows, heads, b}, .block = {kThreads, 1, 1}, .stream = stream}, pointers.data());
  if (extent.rows == 1) {
    arguments.lists.order = nullptr;  // nothing to be ordered
  } else {
    order_({.grid = {heads, b, 1}, .block = {kThreads, 1, 1}, .stream = stream}, arguments,
           static_cast<int>(extent.rows));
  }
  if (turns != nullptr) {
    const auto blocks = static_cast<unsigned>(ceil_div(extent.capacity, kThreads));
    number_({.grid = {blocks, heads, b}, .block = {kThreads, 1, 1}, .stream = stream}, arguments,
            static_cast<int>(extent.rows));
  }
  return arguments.lists;
}

}  // namespace tilewise::cuda
