#include "cuda/launch/kernel_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <string_view>

#include "variant/graph.h"
#include "variant/hoist.h"

namespace tilewise::cuda {
namespace {

/// What both texts' KernelVariant begins with.
constexpr const char* kOpening = R"cuda(
namespace tilewise::cuda {

struct KernelVariant {
  using Arguments = variant::Arguments;
  using Query = variant::Query;
  using Key = variant::Key;
  struct Place {
    variant::Sequence sequence;
    variant::Uniform uniform;
  };

  __device__ static Place place_of(const Arguments& arguments, const SequenceShape& shape, int batch, int head,
                                   int kv_head, float scale) {
    const variant::Sequence sequence{shape.queries,     shape.keys,      shape.query_offset, shape.key_offset,
                                     shape.query_token, shape.key_token, batch,              head,
                                     kv_head,           scale};
    return {sequence, variant::uniform_values(arguments, sequence)};
  }
  __device__ static Query query_values(const Arguments& arguments, const Place& place, int query_index) {
    return variant::query_values(arguments, place.sequence, place.uniform, query_index);
  }
  __device__ static Key key_values(const Arguments& arguments, const Place& place, int key_index) {
    return variant::key_values(arguments, place.sequence, place.uniform, key_index);
  }
)cuda";

constexpr const char* kRecorded = R"cuda(
  using Recorded = KernelVariant;
  __device__ static float full_score(const Arguments& arguments, const Place& place, const Query& query,
                                     const Key& key, int query_index, int key_index, float s) {
    return variant::full_score(
        arguments, place.sequence, place.uniform, query, key,
        variant::diagonal_values(arguments, place.sequence, place.uniform, query_index - key_index), query_index,
        key_index, s);
  }
  __device__ static float partial_score(const Arguments& arguments, const Place& place, const Query& query,
                                        const Key& key, int query_index, int key_index, float s) {
    return variant::partial_score(
        arguments, place.sequence, place.uniform, query, key,
        variant::diagonal_values(arguments, place.sequence, place.uniform, query_index - key_index), query_index,
        key_index, s);
  }
)cuda";

constexpr const char* kSlope = R"cuda(
  using Sloped = variant::Sloped;
  __device__ static Sloped sloped_score(const Arguments& arguments, const Place& place, const Query& query,
                                        const Key& key, int query_index, int key_index, float s) {
    return variant::sloped_score(
        arguments, place.sequence, place.uniform, query, key,
        variant::diagonal_values(arguments, place.sequence, place.uniform, query_index - key_index), query_index,
        key_index, s);
  }
)cuda";

constexpr const char* kGradients = R"cuda(
  template <bool kMayClamp, class Gradients>
  __device__ static void add_gradients(const Arguments& arguments, const Place& place, const Query& query,
                                       const Key& key, int query_index, int key_index, float s, float d,
                                       Gradients& gradients) {
    variant::add_gradients<kMayClamp>(
        arguments, place.sequence, place.uniform, query, key,
        variant::diagonal_values(arguments, place.sequence, place.uniform, query_index - key_index), query_index,
        key_index, s, d, gradients);
  }
  static constexpr int kSlots = variant::kSlots;
  template <int kNumber>
  using Slot = variant::Slot<kNumber>;
  template <template <class> class Of>
  using OfSlots = variant::OfSlots<Of>;
  template <class OneSlot>
  __device__ static long long gradient_element(OneSlot slot, const Arguments& arguments, const Place& place,
                                               const Query& query, const Key& key, int query_index, int key_index) {
    return variant::gradient_element(
        slot, arguments, place.sequence, place.uniform, query, key,
        variant::diagonal_values(arguments, place.sequence, place.uniform, query_index - key_index), query_index,
        key_index, 0.0f);
  }
)cuda";

constexpr const char* kSinkGradients = R"cuda(
  template <class Gradients>
  __device__ static void add_sink_gradients(const Arguments& arguments, const Place& place, float d,
                                            Gradients& gradients) {
    variant::add_sink_gradients(arguments, place.sequence, place.uniform, d, gradients);
  }
)cuda";

constexpr const char* kSink = R"cuda(
  __device__ static float sink_logit(const Arguments& arguments, const Place& place) {
    return variant::sink_logit(arguments, place.sequence, place.uniform);
  }
)cuda";

constexpr const char* kRearranged = R"cuda(
  using Diagonal = variant::Diagonal;
  __device__ static Diagonal diagonal_values(const Arguments& arguments, const Place& place, int difference) {
    return variant::diagonal_values(arguments, place.sequence, place.uniform, difference);
  }
)cuda";

/// A function of an entry: "bool", "keeps".
std::string of_entry(const char* type, const char* name) {
  return fmt::format(
      "  __device__ static {0} {1}(const Arguments& arguments, const Place& place, const Query& query, const Key& "
      "key,\n"
      "                          const Diagonal& diagonal, int query_index, int key_index, float s) {{\n"
      "    return variant::{1}(arguments, place.sequence, place.uniform, query, key, diagonal, query_index, key_index, "
      "s);\n  }}\n",
      type, name);
}

/// What goes with exponents.
constexpr const char* kExponentPlace = R"cuda(
  __device__ static float of_query(const Arguments& arguments, const Place& place, const Query& query) {
    return variant::of_query(arguments, place.sequence, place.uniform, query);
  }
  template <class Take>
  __device__ static Place exponent_place(const Place& place, const Take& take) {
    return {place.sequence, variant::exponent_uniforms(place.uniform, take)};
  }
)cuda";

/// What a text with an exponent in parts has.
constexpr const char* kFactor = R"cuda(
  __device__ static float factor(const Arguments& arguments, const Place& place) {
    return variant::factor(arguments, place.sequence, place.uniform);
  }
)cuda";
/// What one that adds diagonals has besides.
constexpr const char* kOfDiagonal = R"cuda(
  __device__ static float of_diagonal(const Arguments& arguments, const Place& place, const Diagonal& diagonal) {
    return variant::of_diagonal(arguments, place.sequence, place.uniform, diagonal);
  }
)cuda";
/// What one that may be steady or linear has besides.
constexpr const char* kParts = R"cuda(
  __device__ static steady::Real steady_value(const Arguments& arguments, const Place& place, int least, int most) {
    return variant::steady_value(arguments, place.sequence, place.uniform, least, most);
  }
)cuda";
constexpr const char* kValue = R"cuda(
  __device__ static float value(const Arguments& arguments, const Place& place, const Query& query, float s) {
    return variant::value(arguments, place.sequence, place.uniform, query, Key(), Diagonal(), 0, 0, s);
  }
)cuda";
/// What a text of which products may be small has.
constexpr const char* kSquareLimit = R"cuda(
  __device__ static float square_limit(const Arguments& arguments, const Place& place) {
    return variant::square_limit(arguments, place.sequence, place.uniform);
  }
)cuda";
constexpr const char* kProductAsValue = R"cuda(
  __device__ static float value(const Arguments&, const Place&, const Query&, float s) { return s; }
)cuda";

}  // namespace

const char* element_name(DType dtype) {
  return dtype == DType::bfloat16 ? "BFloat16" : dtype == DType::float16 ? "Float16" : "Float32";
}

namespace {

std::ptrdiff_t score_stages(const Variant& variant) {
  const auto& stages = variant.data().stages;
  return std::count_if(stages.begin(), stages.end(),
                       [](const variant::Stage& stage) { return stage.kind == variant::Stage::Kind::score; });
}

}  // namespace

bool changes_scores(const Variant& variant) { return score_stages(variant) > 0; }

GradientSlots gradient_slots(const Variant& variant, const ForwardShape& shape) {
  return shape.has_gradients ? variant::cuda_text(variant, false, true).slots : GradientSlots{};
}

variant::CudaText kernel_text(const Variant& variant, DType dtype, bool with_slope) {
  return dtype == DType::float32 ? variant::cuda_text(variant, with_slope)
                                 : variant::rearranged_cuda_text(variant, dtype, with_slope);
}

namespace {

/// A recorded text, and struct KernelVariant.
std::string recorded_text(const Variant& variant, const variant::CudaText& text) {
  return fmt::format(
      "{}{}{}\n  static constexpr bool kIsRearranged = false, kChangesScores = {}, kHasSink = {};\n{}{}{}{}}};\n\n"
      "}}  // namespace tilewise::cuda\n",
      text.source, kOpening, kRecorded, changes_scores(variant), variant.has_sink(), variant.has_sink() ? kSink : "",
      text.has_slope ? kSlope : "", text.has_gradients ? kGradients : "",
      text.has_gradients && variant.has_sink() ? kSinkGradients : "");
}

/// The same in a namespace of its own, beside a rearranged text.
std::string recorded_beside(const Variant& variant, const variant::CudaText& text) {
  return fmt::format(
      "namespace recorded {{\nnamespace tilewise::cuda {{\nusing ::tilewise::cuda::SequenceShape;\n}}\n{}}}  // "
      "namespace recorded\n",
      recorded_text(variant, text));
}

}  // namespace

KeptFields kept_fields(const Variant& variant, DType dtype) {
  if (dtype == DType::float32) return {};
  const variant::CudaText text = variant::rearranged_cuda_text(variant, dtype, false);
  const bool has_scores = changes_scores(variant);
  const auto kept = [&](variant::Hoist hoist) {
    const int count = text.fields[static_cast<std::size_t>(hoist)];
    return count <= (has_scores ? variant::kMostKeptFields : variant::kMostKeptOfMasks) ? count : 0;
  };
  if (!has_scores) return {.query = kept(variant::Hoist::query)};
  return {kept(variant::Hoist::query), kept(variant::Hoist::key), kept(variant::Hoist::diagonal),
          text.may_be_steady || text.may_be_linear, true};
}

jit::Header variant_header(const Variant& variant, const variant::CudaText& text) {
  if (text.is_rearranged) return rearranged_header(variant, text);
  return {"variant.h", "#pragma once\n#include \"arguments.h\"\n" + recorded_text(variant, text)};
}

jit::Header gradients_header(const Variant& variant, const variant::CudaText& text) {
  if (!text.is_rearranged) return variant_header(variant, variant::cuda_text(variant, true, true));
  jit::Header header = rearranged_header(variant, text, "::recorded::tilewise::cuda::KernelVariant");
  const std::string_view includes = "#pragma once\n#include \"arguments.h\"\n";
  header.text.insert(includes.size(), recorded_beside(variant, variant::cuda_text(variant, false, true)));
  return header;
}

jit::Header rearranged_header(const Variant& variant, const variant::CudaText& text, const char* recorded) {
  const bool has_scores = changes_scores(variant);
  std::string functions = of_entry("bool", "keeps");
  if (has_scores) functions += of_entry("float", "score") + of_entry("float", "exponent") + kExponentPlace;
  if (text.has_slope) functions += of_entry("float", "slope");
  if (variant.has_sink()) functions += kSink;
  const bool has_parts = text.may_be_steady || text.may_be_linear;
  if (has_parts || text.adds_diagonals) functions += kFactor;
  if (text.adds_diagonals) functions += kOfDiagonal;
  if (has_parts) functions += std::string(kParts) + (text.value_is_product ? kProductAsValue : kValue);
  if (text.may_be_small) functions += of_entry("float", "small_exponent") + kSquareLimit;
  const auto fields = [&](variant::Hoist hoist) { return text.fields[static_cast<std::size_t>(hoist)]; };
  return {
      "variant.h",
      fmt::format(
          "#pragma once\n#include \"arguments.h\"\n{}{}{}{}{}\n"
          "  using Recorded = {};\n  static constexpr bool kIsRearranged = true, kMayBeSteady = {}, kMayBeSmall = {};\n"
          "  static constexpr bool kMayBeLinear = {}, kAddsDiagonals = {}, kBeginsSteady = {};\n"
          "  static constexpr bool kChangesScores = {}, kHasSink = {}, kSlopeIsFinite = {}, kIsShort = {};\n"
          "  static constexpr bool kHasOneStage = {}, kFollowsDiagonals = {}, kHasFunctions = {};\n"
          "  static constexpr bool kIsLong = {}, kHasMask = {};\n"
          "  static constexpr int kQueryFields = {}, kKeyFields = {}, kDiagonalFields = {};\n"
          "  static constexpr int kMostKeptFields = {}, kDiagonalReads = {};\n}};\n\n"
          "}}  // namespace tilewise::cuda\n",
          has_parts ? "#include \"steady.h\"\n" : "", text.source, kOpening, kRearranged, functions, recorded,
          text.may_be_steady, text.may_be_small, text.may_be_linear, text.adds_diagonals, text.begins_steady,
          has_scores, variant.has_sink(), text.slope_is_finite, text.hoisted_operations <= 48,
          score_stages(variant) == 1, text.follows_diagonals, text.special_functions > 0, text.is_long(),
          score_stages(variant) < std::ssize(variant.data().stages), fields(variant::Hoist::query),
          fields(variant::Hoist::key), fields(variant::Hoist::diagonal),
          has_scores ? variant::kMostKeptFields : variant::kMostKeptOfMasks, text.diagonal_reads)};
}

}  // namespace tilewise::cuda
