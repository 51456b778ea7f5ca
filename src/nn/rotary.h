// Rotary embedding: a position turns pairs of a head's elements by angles in proportion to it, so that scores depend on
// distances alone.
//
// Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding" (2021).
#pragma once

#include <cstdint>
#include <vector>

namespace tilewise::nn {

/// Which elements of a head are turned together, of the first d rotated ones.
enum class Pairing : std::uint8_t {
  neighbours,  ///< 2 i and 2 i + 1
  halves,      ///< i and i + d / 2
};

/// How frequencies differ from the trained ones, so that positions past those of training can be used.
struct RotaryScaling {
  enum class Kind : std::uint8_t {
    none,
    linear,    ///< every frequency / factor (Chen et al., "Extending Context Window ... via Positional Interpolation")
    llama3,    ///< long waves / factor, short ones as they are, between them a blend (Llama 3.1)
    yarn,      ///< likewise, blended by turns within the trained context, and scores scaled (Peng et al., 2023)
    longrope,  ///< each frequency / a factor of its own (Ding et al., "LongRoPE", 2024)
  };
  Kind kind = Kind::none;
  double factor = 1;
  double trained_context = 0;     // positions; llama3, yarn, longrope
  double low_turns = 1;           // llama3: waves with fewer turns within trained_context are long
  double high_turns = 4;          // llama3: those with more are short
  double slow_turns = 1;          // yarn: likewise (beta_slow)
  double fast_turns = 32;         // yarn: (beta_fast)
  double magnitude = 0;           // of cosines and sines, yarn and longrope; 0: as the paper has it
  std::vector<double> factors{};  // [d / 2], longrope: those of the context that is used
};

struct Rotary {
  Pairing pairing = Pairing::halves;
  std::vector<double> frequencies{};  // [d / 2], radians a position
  double magnitude = 1;               // a factor of every cosine and sine

  std::int64_t d() const { return 2 * static_cast<std::int64_t>(frequencies.size()); }
};

/// Frequencies base^(-2 i / d), scaled, and rounded to float32, in which models are trained. Throws
/// Error(invalid_argument) on an odd d and on parameters that make no sense.
Rotary make_rotary(Pairing pairing, std::int64_t d, double base, const RotaryScaling& scaling);

/// What cosines and sines are multiplied by under yarn of that factor, as the paper has it.
double yarn_magnitude(double factor);

/// Divides frequencies by factors of their own, [d / 2], as GGUF files of Llama 3.1 and later give them.
void divide_frequencies(Rotary& rotary, const std::vector<float>& factors);

/// cosines and sines of a position, the magnitude in them.
void rotary_angles(const Rotary& rotary, double position, float* cosines, float* sines);  // [d / 2] each

/// Turns one head's row, or several that lie one behind the other, `stride` elements apart.
void rotate(const Rotary& rotary, const float* cosines, const float* sines,  // [d / 2] each
            float* rows, std::int64_t count, std::int64_t stride);           // rows [count, d]

/// Sinusoidal positions: row[2 i] = sin(position / 10000^(2 i / width)), row[2 i + 1] = cos of the same (Vaswani et
/// al., 2017).
void sinusoidal_position(std::int64_t position, std::int64_t width, float* row);  // [width]

}  // namespace tilewise::nn
