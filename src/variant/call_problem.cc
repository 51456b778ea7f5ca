#include "variant/call_problem.h"

#include <algorithm>
#include <functional>
#include <limits>

#include "core/check_tensor.h"
#include "core/fail.h"
#include "core/round_up.h"
#include "variant/call_tensors.h"

namespace tilewise::variant {
namespace {

/// The batch that the padded ones of q and k, or the block table, agree on; -1 where both are packed.
std::int64_t batch_of(const ForwardInputs& inputs) {
  const std::int64_t of_q = inputs.q.rank == 4 ? inputs.q.extents[0] : -1;
  if (inputs.block_table) {
    const std::int64_t of_table = inputs.block_table->extents[0];
    if (of_q >= 0 && of_q != of_table) {
      fail_argument("q has extents {} and block_table has {}; expected the same first axis, b", extents_text(inputs.q),
                    extents_text(*inputs.block_table));
    }
    return of_table;
  }
  const std::int64_t of_k = inputs.k.rank == 4 ? inputs.k.extents[0] : -1;
  if (of_q >= 0 && of_k >= 0 && of_q != of_k) {
    fail_argument("q has extents {} and k has {}; expected the same first axis, b", extents_text(inputs.q),
                  extents_text(inputs.k));
  }
  return std::max(of_q, of_k);
}

/// Expects that the rows of every sequence lie within the storage of one side.
void check_rows(const char* name, const ConstTensor& tensor, const std::vector<Sequence>& sequences,
                const char* length_name, std::int64_t Sequence::*length, const char* first_name,
                std::int64_t Sequence::*first_token) {
  const std::int64_t rows = axis_from_end(tensor, 1);
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const std::int64_t count = sequences[i].*length, first = sequences[i].*first_token;
    if (tensor.rank == 4 && count > rows)
      fail_argument("sequence {}: {} is {}; expected at most the {} rows that {} holds", i, length_name, count, rows,
                    name);
    if (tensor.rank == 3 && first + count > rows) {
      fail_argument("sequence {}: {} is {} and {} is {}; expected them to end within the {} tokens of {}", i,
                    first_name, first, length_name, count, rows, name);
    }
  }
}

/// Expects a scale for each block of rows of every sequence, where float8_e4m3 has one for each.
void check_blocks(const char* name, const ConstTensor& tensor, const std::optional<ConstTensor>& scales,
                  const std::vector<Sequence>& sequences, std::int64_t Sequence::*length) {
  if (tensor.dtype != DType::float8_e4m3 || scales->rank == 1) return;
  std::int64_t longest = 0;
  for (const Sequence& sequence : sequences) longest = std::max(longest, sequence.*length);
  const auto b = static_cast<std::int64_t>(sequences.size()), blocks = ceil_div(longest, kScaleRows);
  if (scales->extents[0] != b || scales->extents[2] < blocks) {
    fail_argument("{} has extents {}; expected {} sequences, and at least {} blocks of {} rows", name,
                  extents_text(*scales), b, blocks, kScaleRows);
  }
}

void check_blocks(const ForwardInputs& inputs, const std::vector<Sequence>& sequences) {
  check_blocks("q_scales", inputs.q, inputs.q_scales, sequences, &Sequence::s_q);
  check_blocks("k_scales", inputs.k, inputs.k_scales, sequences, &Sequence::s_kv);
  check_blocks("v_scales", inputs.v, inputs.v_scales, sequences, &Sequence::s_kv);
}

/// Expects a page for each of a sequence's tokens: -1 or one of k's, where they can be looked at.
void check_pages(const ForwardInputs& inputs, const std::vector<Sequence>& sequences, TableData data) {
  const ConstTensor& table = *inputs.block_table;
  const std::int64_t pages = inputs.k.extents[0], page_tokens = inputs.k.extents[2];
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const Sequence& sequence = sequences[i];
    if (sequence.key_start >= sequence.s_kv) continue;
    if (page_tokens < 1) {
      fail_argument("k has extents {}; expected pages of at least 1 token, as sequence {} has {} keys",
                    extents_text(inputs.k), i, sequence.s_kv);
    }
    if ((sequence.s_kv - 1) / page_tokens >= table.extents[1]) {
      fail_argument("sequence {}: s_kv is {}; expected at most the {} pages of {} tokens that block_table holds", i,
                    sequence.s_kv, table.extents[1], page_tokens);
    }
    if (data == TableData::elsewhere) continue;
    const auto* row = static_cast<const std::int32_t*>(table.data) + static_cast<std::int64_t>(i) * table.strides[0];
    for (std::int64_t at = sequence.key_start / page_tokens; at <= (sequence.s_kv - 1) / page_tokens; ++at) {
      if (row[at] < -1 || row[at] >= pages) {
        fail_argument("block_table[{}, {}] is {}; expected a page, 0 to {}, or -1 for a hole", i, at, row[at],
                      pages - 1);
      }
    }
  }
}

/// Sequences of a GPU, as long as they can be by their storage.
void set_longest(const ForwardInputs& inputs, std::int64_t batch, Problem& problem, TableData data) {
  const DeviceSequences& given = *inputs.device_sequences;
  if (data == TableData::readable)
    fail_argument("device_sequences is given to a plan for the processor; expected sequences");
  if (!inputs.sequences.empty()) fail_argument("sequences and device_sequences are both given; expected one of them");
  const std::int64_t b = batch >= 0 ? batch : given.b;
  if (given.b != b) {
    fail_argument("device_sequences has b = {}; expected {}, b of the {}", given.b, b,
                  inputs.block_table ? "block_table" : "padded tensors");
  }
  if (inputs.q.rank == 3 && !given.s_q) fail_argument("device_sequences lacks s_q; expected it with packed queries");
  if ((inputs.k.rank == 3 || inputs.block_table) && !given.s_kv)
    fail_argument("device_sequences lacks s_kv; expected it with packed or paged keys");
  for (const auto& [name, column] : kSequenceColumns) check_column(name, given.*column, b, DType::int32);
  const std::int64_t keys =
      inputs.block_table ? inputs.block_table->extents[1] * inputs.k.extents[2] : axis_from_end(inputs.k, 1);
  problem.set_uniform(b, axis_from_end(inputs.q, 1),
                      std::min<std::int64_t>(keys, std::numeric_limits<std::int32_t>::max()));
}

}  // namespace

void set_problem(const ForwardInputs& inputs, Problem& problem, TableData data) {
  const std::int64_t batch = batch_of(inputs);
  const std::int64_t h_q = axis_from_end(inputs.q, 2), h_kv = axis_from_end(inputs.k, 2);
  const bool packed = inputs.q.rank == 3 || inputs.k.rank == 3;
  problem.h_q = h_q;
  problem.h_kv = h_kv;
  if (inputs.device_sequences) {
    set_longest(inputs, batch, problem, data);
    check_blocks(inputs, problem.sequences);
    return problem.validate();
  }
  problem.sequences.assign(inputs.sequences.begin(), inputs.sequences.end());
  if (inputs.sequences.empty() && !packed && !inputs.block_table) {
    problem.set_uniform(batch, axis_from_end(inputs.q, 1), axis_from_end(inputs.k, 1));
  } else if (batch >= 0 && problem.b() != batch) {
    fail_argument("sequences has {} elements; expected {}, b of the {}", problem.b(), batch,
                  inputs.block_table ? "block_table" : "padded tensors");
  } else if (problem.b() == 0 && inputs.q.elements() + inputs.k.elements() > 0) {
    fail_argument("sequences is empty; packed storage expects one for each sequence in it");
  }
  problem.validate();
  check_blocks(inputs, problem.sequences);
  check_rows("q", inputs.q, problem.sequences, "s_q", &Sequence::s_q, "first_query_token",
             &Sequence::first_query_token);
  if (inputs.block_table) return check_pages(inputs, problem.sequences, data);
  check_rows("k", inputs.k, problem.sequences, "s_kv", &Sequence::s_kv, "first_key_token", &Sequence::first_key_token);
}

void check_own_rows(const char* what, const std::vector<Sequence>& sequences, std::int64_t Sequence::*length,
                    std::int64_t Sequence::*first_token) {
  const auto follows = [&](const Sequence& before, const Sequence& after) {
    return before.*first_token + before.*length <= after.*first_token;
  };
  if (std::ranges::adjacent_find(sequences, std::not_fn(follows)) == sequences.end()) return;  // as nearly always
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    if (sequences[i].*length > 0) order.push_back(i);
  }
  std::ranges::sort(order, {}, [&](std::size_t i) { return sequences[i].*first_token; });
  for (std::size_t at = 1; at < order.size(); ++at) {
    const Sequence &before = sequences[order[at - 1]], &after = sequences[order[at]];
    if (before.*first_token + before.*length > after.*first_token) {
      fail_argument("sequences {} and {} share {} tokens from {} on; expected tokens of their own, as both write them",
                    order[at - 1], order[at], what, after.*first_token);
    }
  }
}

}  // namespace tilewise::variant
