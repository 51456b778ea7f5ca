// tilewise compile: fills a folder with compiled kernels, without a GPU.
#include "tilewise/compile.h"

#include <fmt/format.h>

#include <memory>

#include "command.h"
#include "progress.h"
#include "stand_ins.h"
#include "table.h"
#include "tilewise/error.h"

namespace tilewise::cli {
namespace {

struct Options {
  std::string folder;
  std::vector<std::string> architectures{"sm_80", "sm_89", "sm_90a"};
  std::vector<std::string> variants;
  std::vector<std::int64_t> dims{128};
  std::optional<std::int64_t> dim_v;
  std::int64_t heads = 1;
  std::vector<std::string> dtypes{"bfloat16"};
  std::vector<std::string> parameters;
  bool backward = false, deterministic = false, decode = false, paged = false;
};

/// Whatever plans of these lengths and heads ask for: all that counts is whether there are few queries.
PlanShape shape_of(const Options& options, const Variant& variant, std::int64_t dim, const std::string& dtype) {
  const std::int64_t queries = options.decode ? 1 : 1024, keys = 1024;
  PlanShape shape{.dtype = dtype_from_string(dtype),
                  .h_q = options.heads,
                  .h_kv = 1,
                  .d_qk = dim,
                  .d_v = options.dim_v.value_or(dim),
                  .s_q = queries,
                  .s_kv = keys,
                  .backward = options.backward,
                  .deterministic = options.deterministic};
  const StandIns stand_ins(variant, Problem::uniform(1, options.heads, 1, queries, keys), options.parameters);
  for (const auto& [table, data] : stand_ins.bindings().tables)
    shape.tables.push_back({table, {data.extents.begin(), data.extents.begin() + data.rank}});
  return shape;
}

struct Row {
  std::string variant, dtype;
  std::int64_t dim;
  CompiledKernel kernel;
};

std::vector<Row> compile_all(const Options& options) {
  expect(options.heads >= 1, fmt::format("--heads is {}, expected at least 1", options.heads));
  std::vector<std::string> variants = options.variants;
  if (variants.empty()) variants = {"plain", "causal()"};
  Progress progress(
      static_cast<int>(variants.size() * options.dims.size() * options.dtypes.size() * options.architectures.size()));
  std::vector<Row> rows;
  for (const std::string& text : variants) {
    const Variant variant = parse_variant(text);
    for (const std::int64_t dim : options.dims) {
      for (const std::string& dtype : options.dtypes) {
        for (const std::string& architecture : options.architectures) {
          progress.step(fmt::format("{}, d {}, {}, {}", text, dim, dtype, architecture));
          const PlanShape shape = shape_of(options, variant, dim, dtype);
          for (CompiledKernel& kernel : compile_ahead(variant, shape, architecture, options.folder, options.paged))
            rows.push_back({text, dtype, dim, std::move(kernel)});
        }
      }
    }
  }
  return rows;
}

std::string answer_text(const Options& options) {
  TextTable table({"variant", "d", "dtype", "GPU", "kernel", "registers", "stack", "seconds"});
  for (const Row& row : compile_all(options)) {
    table.add({row.variant, fmt::format("{}", row.dim), row.dtype, row.kernel.architecture, row.kernel.name,
               fmt::format("{}", row.kernel.registers), fmt::format("{} bytes", row.kernel.stack_bytes),
               row.kernel.seconds > 0 ? fmt::format("{:.2f}", row.kernel.seconds) : "in the folder"});
  }
  return fmt::format(
      "{}\nThe kernels of a line's program took the seconds beside it together. They are in {}; an application finds\n"
      "them there when the environment says TILEWISE_CACHE_PATH={}\n",
      table.text(), options.folder, options.folder);
}

Json answer_json(const Options& options) {
  Json list = Json::array();
  for (const Row& row : compile_all(options)) {
    list.push_back({{"variant", row.variant},
                    {"dim", row.dim},
                    {"dtype", row.dtype},
                    {"architecture", row.kernel.architecture},
                    {"kernel", row.kernel.name},
                    {"registers", row.kernel.registers},
                    {"stack_bytes", row.kernel.stack_bytes},
                    {"seconds", row.kernel.seconds}});
  }
  return {{"folder", options.folder}, {"kernels", list}};
}

}  // namespace

void add_compile(CLI::App& program) {
  CLI::App& command = *program.add_subcommand("compile", "Compile kernels for GPUs that need not be here");
  const auto options = std::make_shared<Options>();
  command.add_option("folder", options->folder, "Where compiled kernels go; made where it is missing")->required();
  command
      .add_option("--gpu", options->architectures,
                  "Architectures: sm_80 is an A100's, sm_89 an L40's, sm_90a an H200's")
      ->capture_default_str()
      ->delimiter(',');
  command.add_option("--variant", options->variants,
                     "A variant in its textual form; may be repeated. Plain and causal()");
  command.add_option("--dim", options->dims, "Head dimensions of q and k")->capture_default_str()->delimiter(',');
  command.add_option("--dim-v", options->dim_v, "Head dimension of v; as --dim by default");
  command
      .add_option("--heads", options->heads,
                  "Query heads of a key head: kernels of latent attention's decoding differ by them")
      ->capture_default_str();
  command.add_option("--dtype", options->dtypes, "bfloat16, float16, float32")->capture_default_str()->delimiter(',');
  command.add_option("--parameter", options->parameters, "NAME=VALUE of a parameter; may be repeated");
  command.add_flag("--backward", options->backward, "Also the kernels of a backward pass");
  command.add_flag("--deterministic", options->deterministic, "Those of a deterministic one");
  command.add_flag("--decode", options->decode, "Those of plans for few queries against a cache");
  command.add_flag("--paged", options->paged, "Also for keys and values in pages");
  command.footer(
      "A kernel is compiled when a plan first asks for it, which takes about a second, and is then kept on disk. Here\n"
      "that is done beforehand, for a folder that an application ships. Lengths, batch, heads, literals of a variant\n"
      "and its parameters' values make no difference to a kernel: softcap(20) is served by what softcap(30) compiled.\n"
      "Examples:\n"
      "  tilewise compile kernels\n"
      "  tilewise compile kernels --gpu sm_90a --dim 64,128 --backward --variant 'causal()' --variant 'window(1024)'\n"
      "  tilewise compile kernels --decode --paged --dim 576 --dim-v 512 --heads 128 --gpu sm_90a --json\n"
      "  TILEWISE_CACHE_PATH=kernels my_application");
  add_answers(
      command, [=] { return answer_text(*options); }, [=] { return answer_json(*options); });
}

}  // namespace tilewise::cli
