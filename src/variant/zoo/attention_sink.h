#pragma once

#include "variant/zoo/common/expect.h"

namespace tilewise::zoo {

/// A learned logit for each head that joins the denominator only, so that a head can attend to nothing.
///
///     sink(logit[head])
///
/// `logit`: a table of reals [heads].
Variant attention_sink(const Table& logit) {
  expect_table("attention_sink", logit, Type::real, 1, 1);
  return sink([&](const At& at) { return logit(at.head); });
}

/// A learned logit by head in the denominator; to be bound: `sink_logit`, float32 [heads].
///
///     sink(sink_logit[head])
///
/// Source: gpt-oss (OpenAI 2025); attention sinks (Xiao et al. 2024)
/// Example: attention_sink()
Variant attention_sink() { return attention_sink(Table("sink_logit", DType::float32, 1)); }

}  // namespace tilewise::zoo
