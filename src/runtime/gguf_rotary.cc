// The scaling of rotary embedding as GGUF has it.
#include <fmt/format.h>

#include "nn/rotary.h"
#include "runtime/families/family.h"
#include "runtime/gguf_of_safetensors.h"

namespace tilewise::runtime {
namespace {

using Kind = nn::RotaryScaling::Kind;

std::vector<float> floats_of(const io::JsonValue& list) {
  std::vector<float> values;
  for (std::size_t i = 0; i < list.size(); ++i) values.push_back(static_cast<float>(list.element(i).real()));
  return values;
}

/// What the frequencies are divided by under a scaling: GGUF has Llama 3.1's so.
std::vector<float> divisors(std::int64_t d, double base, const nn::Rotary& scaled) {
  const nn::Rotary plain = nn::make_rotary(nn::Pairing::halves, d, base, {});
  std::vector<float> divisors;
  for (std::size_t i = 0; i < plain.frequencies.size(); ++i) {
    divisors.push_back(static_cast<float>(plain.frequencies[i] / scaled.frequencies[i]));
  }
  return divisors;
}

}  // namespace

void add_rotary_scaling(const ModelSource& source, const std::string& architecture, GgufForm& form) {
  Weights weights(source, nn::Precision::precise, default_executor());  // which config.json's settings do not ask
  const std::int64_t d = query_head_size(source);
  const std::int64_t context = source.integer({nullptr, "max_position_embeddings"}, 1, kMostPositions);
  const BaseAndScaling found = base_and_scaling_of(source, weights, d, context);
  const double base = found.base;
  const nn::RotaryScaling& scaling =
      found.scaling;  // not by a structured binding, which Clang 14 lets no lambda capture
  const nn::Rotary rotary = nn::make_rotary(nn::Pairing::halves, d, base, scaling);  // which checks all of it
  const auto key = [&](const char* name) { return fmt::format("{}.rope.scaling.{}", architecture, name); };
  const auto real = [&](const char* name, double value) {
    form.metadata.add(key(name), io::GgufValue::of_float32(static_cast<float>(value)));
  };
  const auto trained_context = [&] {
    form.metadata.add(key("original_context_length"),
                      io::GgufValue::of_uint32(static_cast<std::uint32_t>(scaling.trained_context)));
  };
  switch (scaling.kind) {
    case Kind::none: return;
    case Kind::llama3: form.add_vector("rope_freqs.weight", divisors(d, base, rotary)); return;
    case Kind::linear:
      form.metadata.add_text(key("type"), "linear");
      real("factor", scaling.factor);
      return;
    case Kind::yarn:
      form.metadata.add_text(key("type"), "yarn");
      real("factor", scaling.factor);
      trained_context();
      real("yarn_beta_fast", scaling.fast_turns);
      real("yarn_beta_slow", scaling.slow_turns);
      real("attn_factor", rotary.magnitude / nn::yarn_magnitude(scaling.factor));
      return;
    case Kind::longrope: {
      form.metadata.add_text(key("type"), "longrope");
      trained_context();
      real("attn_factor", rotary.magnitude);
      const io::JsonValue settings = *rotary_object(source.config());
      form.add_vector("rope_factors_long.weight", floats_of(settings.member("long_factor")));
      form.add_vector("rope_factors_short.weight", floats_of(settings.member("short_factor")));
    }
  }
}

}  // namespace tilewise::runtime
