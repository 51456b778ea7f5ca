#include "models.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "arrays.h"
#include "recipe.h"
#include "tilewise/generate.h"
#include "tilewise/model.h"

namespace nb = nanobind;

namespace tilewise::python {

namespace {

/// The memory of a float32 array that is written, of that many elements.
std::span<float> floats_of(const Array& array, const char* name, std::size_t elements) {
  const Tensor view = array.write(name);
  if (view.dtype != DType::float32 || static_cast<std::size_t>(view.elements()) != elements) {
    throw nb::value_error("expected a float32 array of the result's size");
  }
  return {static_cast<float*>(view.data), elements};
}

void write_logits(const Model& model, const std::vector<std::int32_t>& tokens, nb::handle out) {
  const Array array(out, "out");
  const auto logits = floats_of(array, "out", tokens.size() * static_cast<std::size_t>(model.info().vocabulary));
  nb::gil_scoped_release unlocked;
  model.logits(tokens, logits);
}

void write_embeddings(const Model& model, const std::vector<std::string>& texts, nb::handle out, bool normalise) {
  const Array array(out, "out");
  const auto into = floats_of(array, "out", texts.size() * static_cast<std::size_t>(model.info().width));
  nb::gil_scoped_release unlocked;
  const std::vector<float> vectors = model.embed(texts, {.normalise = normalise});
  std::ranges::copy(vectors, into.begin());
}

nb::dict info_of(const Model& model) {
  const ModelInfo& info = model.info();
  nb::dict found;
  found["path"] = info.path;
  found["architecture"] = info.architecture;
  found["name"] = info.name;
  found["generates"] = info.generates;
  found["layers"] = info.layers;
  found["width"] = info.width;
  found["h_q"] = info.h_q;
  found["h_kv"] = info.h_kv;
  found["vocabulary"] = info.vocabulary;
  found["context"] = info.context;
  found["parameters"] = info.parameters;
  found["bytes"] = info.bytes;
  found["variant"] = info.variant;
  found["chat_template"] = info.chat_template;
  return found;
}

Request request_of(std::vector<std::int32_t> prompt, std::int64_t most_tokens, std::int64_t samples, double temperature,
                   std::int64_t top_k, double top_p, double min_p, double repetition_penalty, std::uint64_t seed,
                   std::vector<std::string> stop, bool ignore_end) {
  Request request{.prompt = std::move(prompt), .most_tokens = most_tokens, .samples = samples};
  request.sampling.temperature = temperature;
  request.sampling.top_k = top_k;
  request.sampling.top_p = top_p;
  request.sampling.min_p = min_p;
  request.sampling.repetition_penalty = repetition_penalty;
  request.sampling.seed = seed;
  request.stop = std::move(stop);
  request.ignore_end = ignore_end;
  return request;
}

/// The events of one step, as (sample, token, text, why it ended).
nb::list step(Generator& generator) {
  std::vector<TokenEvent> events;
  {
    nb::gil_scoped_release unlocked;
    events = generator.step();
  }
  nb::list result;
  for (const TokenEvent& event : events) {
    result.append(nb::make_tuple(event.sample, event.token, event.text, to_string(event.finish)));
  }
  return result;
}

}  // namespace

void bind_models(nb::module_& module) {
  nb::class_<Model>(module, "Model")
      .def("info", info_of)
      .def(
          "encode",
          [](const Model& model, const std::string& text, bool add_special, bool parse_control) {
            return model.encode(text, {.add_special = add_special, .parse_control = parse_control});
          },
          nb::arg("text"), nb::arg("add_special"), nb::arg("parse_control"))
      .def(
          "encode_chat",
          [](const Model& model, const std::vector<std::pair<std::string, std::string>>& messages) {
            std::vector<ChatMessage> all;
            for (const auto& [role, content] : messages) all.push_back({role, content});
            return model.encode_chat(all);
          },
          nb::arg("messages"))
      .def(
          "decode", [](const Model& model, const std::vector<std::int32_t>& tokens) { return model.decode(tokens); },
          nb::arg("tokens"))
      .def("logits", write_logits, nb::arg("tokens"), nb::arg("out"))
      .def("embed", write_embeddings, nb::arg("texts"), nb::arg("out"), nb::arg("normalise"))
      .def("generator", [](const Model& model) { return Generator(model); });
  module.def(
      "open_model",
      [](const std::string& path, bool precise, const Recipe* recipe) {
        ModelOptions options{.precise = precise};
        if (recipe != nullptr) options.variant = recipe->variant();
        nb::gil_scoped_release unlocked;
        return Model::open(path, options);
      },
      nb::arg("path"), nb::arg("precise"), nb::arg("recipe").none());
  nb::class_<Generator>(module, "Generator")
      .def(
          "submit",
          [](Generator& generator, std::vector<std::int32_t> prompt, std::int64_t most_tokens, std::int64_t samples,
             double temperature, std::int64_t top_k, double top_p, double min_p, double repetition_penalty,
             std::uint64_t seed, std::vector<std::string> stop, bool ignore_end) {
            return static_cast<std::int64_t>(
                generator.submit(request_of(std::move(prompt), most_tokens, samples, temperature, top_k, top_p, min_p,
                                            repetition_penalty, seed, std::move(stop), ignore_end)));
          },
          nb::arg("prompt"), nb::arg("most_tokens"), nb::arg("samples"), nb::arg("temperature"), nb::arg("top_k"),
          nb::arg("top_p"), nb::arg("min_p"), nb::arg("repetition_penalty"), nb::arg("seed"), nb::arg("stop"),
          nb::arg("ignore_end"))
      .def("is_idle", &Generator::is_idle)
      .def("step", step);
}

}  // namespace tilewise::python
