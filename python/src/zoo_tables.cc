// The named variants that take a table. Written by tools/generate_zoo from the headers of src/variant/zoo/; do not
// edit.
#include <nanobind/stl/shared_ptr.h>

#include <cstdint>
#include <memory>

#include "recipe.h"
#include "tilewise/zoo.h"

namespace tilewise::python {

// clang-format off
void bind_zoo_tables(nanobind::module_& module) {
  module.def("zoo_attention_sink", [](const Table& logit) {
    return std::make_shared<Recipe>(zoo::attention_sink(logit));
  });
  module.def("zoo_block_sparse", [](const Table& blocks, std::int32_t block) {
    return std::make_shared<Recipe>(zoo::block_sparse(block, blocks));
  });
  module.def("zoo_dense_bias", [](const Table& addend) {
    return std::make_shared<Recipe>(zoo::dense_bias(addend));
  });
  module.def("zoo_dense_mask", [](const Table& mask) {
    return std::make_shared<Recipe>(zoo::dense_mask(mask));
  });
  module.def("zoo_learned_bias", [](const Table& bias) {
    return std::make_shared<Recipe>(zoo::learned_bias(bias));
  });
  module.def("zoo_pair_bias", [](const Table& pair) {
    return std::make_shared<Recipe>(zoo::pair_bias(pair));
  });
  module.def("zoo_relative_position", [](const Table& bias, std::int32_t max_distance) {
    return std::make_shared<Recipe>(zoo::relative_position(bias, max_distance));
  });
  module.def("zoo_t5_buckets", [](const Table& bias, std::int32_t buckets, std::int32_t max_distance, bool bidirectional) {
    return std::make_shared<Recipe>(zoo::t5_buckets(bias, buckets, max_distance, bidirectional));
  });
}
// clang-format on

}  // namespace tilewise::python
