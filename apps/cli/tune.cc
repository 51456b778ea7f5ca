// tilewise tune: which plan is the fastest on the GPU at hand.
#include "tilewise/tune.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>

#include "attention_case.h"
#include "command.h"
#include "machine.h"
#include "progress.h"
#include "table.h"
#include "tilewise/error.h"

namespace tilewise::cli {
namespace {

struct Options {
  std::vector<std::string> variants;
  std::vector<std::int64_t> dims{64, 128};
  std::string dtype = "bfloat16";
  std::vector<std::string> parameters;
  std::int64_t queries = 4096, batch = 1;
  std::optional<std::int64_t> keys, heads, kv_heads;
  bool decode = false, forward_only = false, only_measure = false;
  std::string device = "cuda";
};

CaseShape shape_of(const Options& options, std::int64_t dim) {
  constexpr std::int64_t kHidden = 2048, kDecodedKeys = 8192, kDecodedBatch = 16;
  const std::int64_t heads = options.heads.value_or(options.decode ? 32 : std::max<std::int64_t>(kHidden / dim, 1));
  return {.b = options.decode && options.batch == 1 ? kDecodedBatch : options.batch,
          .h_q = heads,
          .h_kv = options.kv_heads.value_or(options.decode && heads % 4 == 0 ? heads / 4 : heads),
          .s_q = options.decode ? 1 : options.queries,
          .s_kv = options.keys.value_or(options.decode ? kDecodedKeys : options.queries),
          .d = dim,
          .dtype = dtype_from_string(options.dtype),
          .backward = !options.decode && !options.forward_only,
          .table_gradients = false};
}

/// Seconds of a call: the median of a few batches of them, each long enough for the clock.
double seconds_of(AttentionCase& given, bool backward) {
  const auto run = [&](int calls) {
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < calls; ++i) {
      if (backward) {
        given.backward();
      } else {
        given.forward();
      }
    }
    given.finish();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() / calls;
  };
  if (backward) given.forward();
  run(2);
  constexpr double kBatch = 0.02;
  const int calls = std::clamp(static_cast<int>(kBatch / run(1)), 1, 1000);
  std::vector<double> times(5);
  for (double& time : times) time = run(calls);
  std::ranges::nth_element(times, times.begin() + 2);
  return times[2];
}

struct Tuned {
  std::string variant;
  std::int64_t dim;
  TunedPlan plan;
};

std::vector<Tuned> tune_all(const Options& options) {
  const Device device = device_from_string(options.device);
  if (!device.is_cuda())
    throw Error(ErrorCode::invalid_argument,
                fmt::format("--device is {}, expected cuda or cuda:NUMBER", options.device));
  std::vector<std::string> variants = options.variants;
  if (variants.empty()) variants = {"plain"};
  Progress progress(static_cast<int>(variants.size() * options.dims.size()));
  std::vector<Tuned> all;
  for (const std::string& text : variants) {
    const Variant variant = parse_variant(text);
    for (const std::int64_t dim : options.dims) {
      progress.step(fmt::format("{}, d {}", text, dim));
      const CaseShape shape = shape_of(options, dim);
      const auto make = [&] { return AttentionCase(variant, shape, device, options.parameters); };
      int measured = 0;
      TuneCase given{.plan = [&] { make(); },
                     .measure =
                         [&](const std::string& kernel) {
                           progress.detail(fmt::format("{}, plan {}", kernel, ++measured));
                           AttentionCase made = make();
                           return seconds_of(made, kernel == "backward");
                         }};
      if (options.decode) given.kernels = {"decoding"};
      for (TunedPlan& plan : tune(given, !options.only_measure)) all.push_back({text, dim, std::move(plan)});
    }
  }
  return all;
}

std::string answer_text(const Options& options) {
  TextTable table({"variant", "d", "kernel", "plan", "time", "", ""});
  for (const auto& [variant, dim, plan] : tune_all(options)) {
    table.add({variant, fmt::format("{}", dim), plan.kernel, plan.plan, seconds_text(plan.seconds),
               plan.is_default ? "default" : "", plan.is_chosen ? "fastest" : ""});
  }
  return fmt::format("{}\nTimes are of a call, everything counted. {}\n", table.text(),
                     options.only_measure ? "Nothing was kept."
                                          : "The fastest plans are kept beside the compiled kernels, for plans of the\n"
                                            "same shape class on GPUs of this name.");
}

Json answer_json(const Options& options) {
  Json list = Json::array();
  for (const auto& [variant, dim, plan] : tune_all(options)) {
    list.push_back({{"variant", variant},
                    {"dim", dim},
                    {"kernel", plan.kernel},
                    {"for", plan.what},
                    {"plan", plan.plan},
                    {"seconds", plan.seconds},
                    {"default", plan.is_default},
                    {"fastest", plan.is_chosen}});
  }
  return {{"kept", !options.only_measure}, {"plans", list}};
}

}  // namespace

void add_tune(CLI::App& program) {
  CLI::App& command = *program.add_subcommand("tune", "Measure a GPU's plans and keep the fastest");
  const auto options = std::make_shared<Options>();
  command.add_option("--variant", options->variants, "A variant in its textual form; may be repeated. Plain attention");
  command.add_option("--dim", options->dims, "Head dimensions")->capture_default_str()->delimiter(',');
  command.add_option("--dtype", options->dtype, "bfloat16, float16 or float32")->capture_default_str();
  command.add_option("--queries", options->queries, "Queries of each sequence")->capture_default_str();
  command.add_option("--keys", options->keys, "Keys of each sequence; as many as queries, or 8192 with --decode");
  command.add_option("--batch", options->batch, "Sequences; 16 with --decode")->capture_default_str();
  command.add_option("--heads", options->heads, "Query heads; 2048 / dim, or 32 with --decode");
  command.add_option("--kv-heads", options->kv_heads, "Key/value heads; as many, or a quarter with --decode");
  command.add_option("--parameter", options->parameters, "NAME=VALUE of a parameter; may be repeated");
  command.add_flag("--decode", options->decode, "One query against a cache, in place of forward and backward passes");
  command.add_flag("--forward", options->forward_only, "No backward pass");
  command.add_flag("--only-measure", options->only_measure, "Keep nothing");
  add_device_option(command, options->device);
  command.footer(
      "A plan (tiles, warps, stages) is chosen by arithmetic: the one that is believed to be the fastest of those "
      "that\n"
      "fit the GPU. This measures all of them. Lengths and heads make no difference to what is kept, but they do to "
      "what\n"
      "is the fastest: give those that you use.\n"
      "Examples:\n"
      "  tilewise tune\n"
      "  tilewise tune --dim 128 --variant 'softcap(30)' --variant 'causal()' --forward\n"
      "  tilewise tune --decode --dim 128 --batch 64 --keys 4096 --json\n"
      "  tilewise tune --dim 64 --dtype float32 --only-measure");
  add_answers(
      command, [=] { return answer_text(*options); }, [=] { return answer_json(*options); });
}

}  // namespace tilewise::cli
