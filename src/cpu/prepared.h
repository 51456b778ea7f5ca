// What the backward pass makes of a query head before its key tiles, and of d_q after them.
#pragma once

#include <cstdint>

#include "cpu/kernels.h"
#include "cpu/units.h"

namespace tilewise::cpu {

/// The packed form of a query head. Queries come in blocks of kQueries, each block in strips of kStrip; a block holds q
/// and d_o twice, once with lanes along queries (as the right side of scores) and once with lanes along columns (as the
/// right side of d_k and d_v), and two numbers a query. The latter form may be left out, to be read from rows.
template <class Engine>
struct Prepared {
  using Lanes = typename Engine::Lanes;
  using Vec = typename Lanes::Vec;
  static constexpr int kStrip = Engine::kStrip;
  static constexpr int kQueries = Engine::kBackwardQueries;
  static constexpr int kStrips = kQueries / kStrip;
  static_assert(kQueries % kStrip == 0);

  /// Pointers into one block.
  template <class Float>
  struct Block {
    Float* q;          // [kStrips] strips as the engine packs q
    Float* d_o;        // [kStrips] likewise
    Float* q_right;    // as the engine's pack_right leaves it
    Float* d_o_right;  // likewise
    Float* reference;  // [kQueries], lse; +inf where no weight may come from; of an odd row: see share
    Float* delta;      // [kQueries]
    Float* share;      // [kQueries], 0; of an odd row, whose lse is NaN or too large to tell weights by or whose
                       // delta is not finite, what exp(score - reference) is to be multiplied by, with the reference
                       // in the score buffer's units
    Float* is_odd;     // [kStrips], whether a strip has an odd row; the first is kNothingKept where no row of the block
                       // keeps anything: nothing else is filled then
    Float* reads_rows;  // [1], whether q_right and d_o_right are left out
  };
  static constexpr float kNothingKept = -1;

  static std::int64_t block_floats(const Shape& shape) {
    return kStrips * (Engine::packed_q_floats(shape.d_qk) + Engine::packed_q_floats(shape.d_v)) +
           Engine::packed_right_floats(kQueries, shape.d_qk) + Engine::packed_right_floats(kQueries, shape.d_v) +
           4 * kQueries;
  }
  static_assert(kStrips + 1 <= kQueries);
  /// Of which are never touched where whole blocks leave out what they can.
  static std::int64_t unread_floats(const Shape& shape) {
    const std::int64_t used = Engine::packed_q_floats(shape.d_v);  // of d_o_right, to sum up delta
    return shape.s_q / kQueries *
           (Engine::packed_right_floats(kQueries, shape.d_qk) + Engine::packed_right_floats(kQueries, shape.d_v) -
            used);
  }
  static std::int64_t blocks(const Shape& shape) { return (shape.s_q + kQueries - 1) / kQueries; }
  static std::int64_t floats(const Shape& shape) { return blocks(shape) * block_floats(shape); }

  /// Floats of one strip of d_q: [rounded d_qk][kStrip].
  static std::int64_t d_q_strip(const Shape& shape) { return std::int64_t{Engine::rounded_d_v(shape.d_qk)} * kStrip; }
  /// A partial sum of d_q: a flag for each strip of queries, 0 until something has been added to it, and then the
  /// strips, which hold nothing until then.
  static std::int64_t d_q_flags(const Shape& shape) { return (blocks(shape) * kStrips + 15) / 16 * 16; }
  static std::int64_t d_q_floats(const Shape& shape) {
    return d_q_flags(shape) + blocks(shape) * kStrips * d_q_strip(shape);
  }
  /// The strip whose first query is `query`.
  static float* d_q_of(float* d_q, const Shape& shape, std::int64_t query) {
    return d_q + d_q_flags(shape) + query / kStrip * d_q_strip(shape);
  }

  /// The block whose first query is `query`, a multiple of kQueries.
  template <class Float>
  static Block<Float> block(Float* prepared, const Shape& shape, std::int64_t query) {
    Block<Float> found{};
    found.q = prepared + query / kQueries * block_floats(shape);
    found.d_o = found.q + kStrips * Engine::packed_q_floats(shape.d_qk);
    found.q_right = found.d_o + kStrips * Engine::packed_q_floats(shape.d_v);
    found.d_o_right = found.q_right + Engine::packed_right_floats(kQueries, shape.d_qk);
    found.reference = found.d_o_right + Engine::packed_right_floats(kQueries, shape.d_v);
    found.delta = found.reference + kQueries;
    found.share = found.delta + kQueries;
    found.is_odd = found.share + kQueries;
    found.reads_rows = found.is_odd + kStrips;
    return found;
  }

  static void prepare(const PrepareTask& task) {
    for (std::int64_t query = task.query_begin; query < task.query_end; query += kQueries) {
      prepare_block(task, query, block(task.prepared, task.shape, query));
    }
  }

  static void finish(const FinishTask& task) {
    float factors[kStrip];
    for (float& factor : factors) factor = task.scale;
    const std::int64_t strip_floats = d_q_strip(task.shape);
    for (std::int64_t query = task.query_begin; query < task.query_end; query += kStrip) {
      // The first that has something is added to: of a sparse mask it is mostly the only one.
      float* strip = nullptr;
      for (int i = 0; i < task.partial_count; ++i) {
        if (task.partials[i][query / kStrip] == 0) continue;
        float* partial = d_q_of(task.partials[i], task.shape, query);
        if (strip == nullptr) {
          strip = partial;
          continue;
        }
        for (std::int64_t j = 0; j < strip_floats; ++j) strip[j] += partial[j];
      }
      const std::int64_t left = task.query_end - query;
      const int count = static_cast<int>(left < kStrip ? left : kStrip);
      if (strip == nullptr)
        clear_rows(task.d_q, query, count, task.shape.d_qk);
      else
        Engine::unpack_o(strip, factors, query, count, task.shape.d_qk, task.d_q);
    }
  }

 private:
  /// Whether no row of a block keeps an entry or has a sink.
  static bool keeps_nothing(const PrepareTask& task, std::int64_t query, int count) {
    for (int i = 0; i < count; ++i) {
      if (task.lse[query + i] != -__builtin_inff()) return false;
    }
    return true;
  }

  static void prepare_block(const PrepareTask& task, std::int64_t query, const Block<float>& block) {
    const ScoreUnits units = score_units<Engine>(task.scale, task.score);
    const Shape& shape = task.shape;
    const std::int64_t left = shape.s_q - query;
    const int count = static_cast<int>(left < kQueries ? left : kQueries);
    if (keeps_nothing(task, query, count)) {
      block.is_odd[0] = kNothingKept;
      for (int i = 0; i < count; ++i) task.delta[query + i] = 0;  // goes nowhere
      return;
    }
    for (int strip = 0; strip < kStrips; ++strip) {
      const int first = strip * kStrip;
      const int present = count <= first ? 0 : count - first < kStrip ? count - first : kStrip;
      Engine::pack_q(task.q, query + first, present, shape.d_qk, units.q_factor,
                     block.q + strip * Engine::packed_q_floats(shape.d_qk));
      Engine::pack_q(task.d_o, query + first, present, shape.d_v, 1,
                     block.d_o + strip * Engine::packed_q_floats(shape.d_v));
      // Summed as v d_o is summed in the key tiles: where one key has all the weight the two then cancel exactly.
      float* o = block.d_o_right;  // not yet in use
      Engine::pack_q(task.o, query + first, present, shape.d_v, 1, o);
      Engine::column_dots(o, block.d_o + strip * Engine::packed_q_floats(shape.d_v), shape.d_v, block.delta + first);
    }
    const bool reads_rows = may_read_rows(task, count, block);
    *block.reads_rows = reads_rows ? 1 : 0;
    if (!reads_rows) {
      Engine::pack_right(task.q, query, count, kQueries, shape.d_qk, block.q_right);
      Engine::pack_right(task.d_o, query, count, kQueries, shape.d_v, block.d_o_right);
      // A key that a row does not keep must not receive 0 * NaN from it; of one that it keeps the score carries the
      // NaN.
      clear_non_finite(block.q_right, shape.d_qk);
    }
    number_rows(task, query, count, block);
  }

  /// Whether rows of q and d_o serve as they are: the block has all of its rows, they lie well, and nothing is to be
  /// cleared of NaN and infinity.
  static bool may_read_rows(const PrepareTask& task, int count, const Block<float>& block) {
    const Shape& shape = task.shape;
    return task.reads_rows && count == kQueries && Engine::reads_right(task.q, shape.d_qk) &&
           Engine::reads_right(task.d_o, shape.d_v) &&
           are_finite(block.q, kStrips * Engine::packed_q_floats(shape.d_qk)) &&
           are_finite(block.d_o, kStrips * Engine::packed_q_floats(shape.d_v));
  }

  static bool are_finite(const float* values, std::int64_t floats) {
    constexpr int kSums = 4;  // at a time, since one would wait for itself
    static_assert(kQueries % (kSums * Lanes::kWidth) == 0);
    Vec sums[kSums];
    for (Vec& sum : sums) sum = Lanes::zero();
    for (std::int64_t i = 0; i < floats; i += kSums * Lanes::kWidth) {
      for (int n = 0; n < kSums; ++n)
        sums[n] = Lanes::add(sums[n], Lanes::mul(Lanes::load(values + i + n * Lanes::kWidth), Lanes::zero()));
    }
    float sum[Lanes::kWidth];
    Lanes::store(sum, Lanes::add(Lanes::add(sums[0], sums[1]), Lanes::add(sums[2], sums[3])));
    for (const float value : sum) {
      if (!(value == 0)) return false;
    }
    return true;
  }

  /// Fills reference, delta (so far rowsum(d_o * o)), share and is_odd.
  static void number_rows(const PrepareTask& task, std::int64_t query, int count, const Block<float>& block) {
    const double natural = score_units<Engine>(task.scale, task.score).natural;
    for (int i = 0; i < kQueries; ++i) {
      block.reference[i] = __builtin_inff();
      block.share[i] = 0;
    }
    for (int strip = 0; strip < kStrips; ++strip) block.is_odd[strip] = 0;
    bool gives_nothing = false, gives_much = false;  // rows with a d_o that is not finite: to no key, or to some
    for (int i = 0; i < count; ++i) {
      if (task.d_lse != nullptr) block.delta[i] -= task.d_lse[query + i];
      task.delta[query + i] = block.delta[i];
      const float lse = task.lse[query + i];
      const bool keeps_nothing = lse == -__builtin_inff(), is_finite = __builtin_isfinite(block.delta[i]);
      gives_nothing |= keeps_nothing && !is_finite;
      gives_much |= !keeps_nothing && !is_finite;
      // As it is: rounded once more, in the units of the score buffer, it would put a whole row off by as much again.
      if (!keeps_nothing) block.reference[i] = lse;
      const bool is_usual = __builtin_isinf(lse) || (lse > -kLargeLse && lse < kLargeLse);
      if (is_usual && is_finite) continue;
      block.is_odd[i / kStrip] = 1;
      const bool is_known = !is_usual && lse == lse && task.maximum != nullptr;
      const std::int64_t at = query - task.query_begin + i;
      if (!keeps_nothing) block.reference[i] = static_cast<float>(double{lse} / natural);
      if (is_known) block.reference[i] = task.maximum[at];
      block.share[i] = is_known ? 1 / task.sum[at] : 1;
    }
    // Else its zeros would be NaN in d_v; one that keeps keys may reach those of its tile, as a value reaches rows.
    if (gives_nothing && !gives_much && *block.reads_rows == 0) clear_non_finite(block.d_o_right, task.shape.d_v);
  }

  static void clear_non_finite(float* right, int d) {
    for (std::int64_t i = 0; i < Engine::packed_right_floats(kQueries, d); i += Lanes::kWidth)
      Lanes::store(right + i, Lanes::finite_or_zero(Lanes::load(right + i)));
  }
};

}  // namespace tilewise::cpu
