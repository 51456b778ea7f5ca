// Settings of rotary embedding, in both formats.
#include <algorithm>
#include <cmath>

#include "core/fail.h"
#include "runtime/families/family.h"

namespace tilewise::runtime {
namespace {

using nn::RotaryScaling;

/// Settings of rotary embedding, which config.json keeps in an object of its own.
class RotarySettings {
 public:
  explicit RotarySettings(const ModelSource& source) : source_(source) {
    if (source.is_gguf()) return;
    object_ = rotary_object(source.config());
  }

  /// Throws Error(unsupported) on what would turn heads in another way.
  void expect_known() const {
    if (source_.is_gguf()) return;
    for (const auto& settings : {std::optional(source_.config()), object_}) {
      const auto partial = settings ? settings->find("partial_rotary_factor") : std::nullopt;
      if (partial && partial->real() != 1) source_.refuse("partial_rotary_factor is not supported; whole heads are");
    }
    if (!object_) return;
    for (const char* name : {"mscale", "mscale_all_dim"}) {
      if (object_->find(name)) source_.refuse(std::string(name) + " of rotary scaling is not supported");
    }
    const auto truncates = object_->find("truncate");
    if (truncates && !truncates->boolean()) source_.refuse("rotary scaling that does not truncate is not supported");
  }

  double base() const {
    if (object_ && object_->find("rope_theta")) return object_->member("rope_theta").real();
    return source_.real_or({"rope.freq_base", "rope_theta"}, 10000.0);
  }

  std::string kind() const {
    if (source_.is_gguf()) return source_.string_or({"rope.scaling.type", nullptr}, "none");
    if (!object_) return "none";
    const std::optional<io::JsonValue> kind = object_->find(object_->find("rope_type") ? "rope_type" : "type");
    return kind ? kind->string() : "none";
  }

  double real(const Key& key) const { return source_.is_gguf() ? source_.real(key) : object_->member(key.json).real(); }
  double real_or(const Key& key, double otherwise) const {
    if (source_.is_gguf()) return key.gguf == nullptr ? otherwise : source_.real_or(key, otherwise);
    return object_->find(key.json) ? object_->member(key.json).real() : otherwise;
  }

  /// Positions that the frequencies were trained for.
  double trained_context(std::int64_t context) const {
    const Key key{"rope.scaling.original_context_length", "original_max_position_embeddings"};
    if (source_.is_gguf()) return static_cast<double>(source_.integer_or(key, 1, kMostPositions, context));
    // Some files have it outside of the object.
    const auto outside = static_cast<double>(source_.integer_or(key, 1, kMostPositions, context));
    return real_or(key, outside);
  }

  /// Factors of frequencies, [d / 2] of config.json.
  std::vector<double> list(const char* name) const {
    const io::JsonValue values = object_->member(name);
    std::vector<double> list;
    for (std::size_t i = 0; i < values.size(); ++i) list.push_back(values.element(i).real());
    return list;
  }

 private:
  const ModelSource& source_;
  std::optional<io::JsonValue> object_;
};

void add_longrope(const ModelSource& source, Weights& weights, const RotarySettings& settings, std::int64_t d,
                  std::int64_t context, RotaryScaling& scaling) {
  // The long factors are for what lies past the trained context, and the model is used up to its whole context.
  const bool is_long = static_cast<double>(context) > scaling.trained_context;
  if (source.is_gguf()) {
    for (const bool which : {false, true}) {
      const std::vector<float> factors =
          weights.vector(which ? "rope_factors_long.weight" : "rope_factors_short.weight", d / 2);
      if (which == is_long) scaling.factors.assign(factors.begin(), factors.end());
    }
  } else {
    scaling.factors = settings.list(is_long ? "long_factor" : "short_factor");
  }
  const double grown = std::max(1.0, static_cast<double>(context) / scaling.trained_context);
  scaling.factor = settings.real_or({"rope.scaling.factor", "factor"}, grown);
}

RotaryScaling read_scaling(const ModelSource& source, Weights& weights, const RotarySettings& settings, std::int64_t d,
                           std::int64_t context) {
  settings.expect_known();
  using Kind = RotaryScaling::Kind;
  RotaryScaling scaling;
  const std::string kind = settings.kind();
  if (kind == "none" || kind == "default") return scaling;
  const Key factor{"rope.scaling.factor", "factor"};
  if (kind == "linear") {
    scaling.kind = Kind::linear;
    scaling.factor = settings.real(factor);
    return scaling;
  }
  scaling.trained_context = settings.trained_context(context);
  scaling.magnitude = settings.real_or({"rope.scaling.attn_factor", "attention_factor"}, 0);
  if (kind == "llama3") {
    scaling.kind = Kind::llama3;
    scaling.factor = settings.real(factor);
    scaling.low_turns = settings.real({"rope.scaling.low_freq_factor", "low_freq_factor"});
    scaling.high_turns = settings.real({"rope.scaling.high_freq_factor", "high_freq_factor"});
  } else if (kind == "yarn") {
    scaling.kind = Kind::yarn;
    scaling.factor = settings.real(factor);
    scaling.fast_turns = settings.real_or({"rope.scaling.yarn_beta_fast", "beta_fast"}, 32);
    scaling.slow_turns = settings.real_or({"rope.scaling.yarn_beta_slow", "beta_slow"}, 1);
    // GGUF's is a factor of the paper's.
    if (source.is_gguf() && scaling.magnitude > 0) scaling.magnitude *= nn::yarn_magnitude(scaling.factor);
  } else if (kind == "longrope") {
    scaling.kind = Kind::longrope;
    add_longrope(source, weights, settings, d, context, scaling);
  } else {
    source.refuse("rotary scaling " + kind + " is not supported; none, linear, llama3, yarn and longrope are");
  }
  return scaling;
}

}  // namespace

std::optional<io::JsonValue> rotary_object(const io::JsonValue& config) {
  const auto parameters = config.find("rope_parameters");
  return parameters ? parameters : config.find("rope_scaling");
}

BaseAndScaling base_and_scaling_of(const ModelSource& source, Weights& weights, std::int64_t d, std::int64_t context) {
  const RotarySettings settings(source);
  return {settings.base(), read_scaling(source, weights, settings, d, context)};
}

nn::Rotary rotary_of(const ModelSource& source, Weights& weights, nn::Pairing pairing, std::int64_t d,
                     std::int64_t context) {
  try {
    const auto [base, scaling] = base_and_scaling_of(source, weights, d, context);
    nn::Rotary rotary = nn::make_rotary(pairing, d, base, scaling);
    // GGUF gives Llama 3.1's scaling as factors, worked out when the file was written.
    if (source.is_gguf() && weights.has("rope_freqs.weight"))
      nn::divide_frequencies(rotary, weights.vector("rope_freqs.weight", d / 2));
    return rotary;
  } catch (const Error& error) {
    // What the embedding refuses as an argument came out of the file.
    if (error.code() != ErrorCode::invalid_argument) throw;
    fail(ErrorCode::parse, "{}: {}", source.path(), error.what());
  }
}

}  // namespace tilewise::runtime
