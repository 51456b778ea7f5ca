#include "peers.h"

#include <fmt/format.h>

#include "child.h"
#include "command.h"

namespace tilewise::cli {
namespace {

/// Reads cases from its argument, and writes a line of JSON for each peer and case.
constexpr const char* kProgram = R"python(
import json, statistics, sys, time, warnings
warnings.simplefilter("ignore")
try:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention as attention
except ImportError as error:
    sys.exit("PyTorch: " + str(error))
if not torch.cuda.is_available():
    sys.exit("PyTorch sees no GPU")
torch.cuda.set_device(int(sys.argv[2]))
peers = {"FlashAttention-2": SDPBackend.FLASH_ATTENTION, "cuDNN": SDPBackend.CUDNN_ATTENTION}
for number, case in enumerate(json.loads(sys.argv[1])):
    backward = case["direction"] == "backward"
    def tensor(heads, length):
        return torch.randn(case["batch"], heads, length, case["dim"], device="cuda",
                           dtype=getattr(torch, case["dtype"]), requires_grad=backward)
    q, k, v = tensor(case["heads"], case["queries"]), tensor(case["kv_heads"], case["keys"]), tensor(case["kv_heads"], case["keys"])
    options = {"is_causal": case["variant"] != "plain", "enable_gqa": case["heads"] != case["kv_heads"]}
    for name, backend in peers.items():
        try:
            with sdpa_kernel(backend):
                o = attention(q, k, v, **options)
                d_o = torch.randn_like(o)
                def call():
                    if backward:
                        torch.autograd.grad(o, (q, k, v), d_o, retain_graph=True)
                    else:
                        attention(q, k, v, **options)
                def seconds(calls):
                    torch.cuda.synchronize()
                    begin = time.perf_counter()
                    for _ in range(calls):
                        call()
                    torch.cuda.synchronize()
                    return (time.perf_counter() - begin) / calls
                seconds(2)
                calls = max(1, min(1000, int(0.05 / seconds(1))))
                print(json.dumps({"peer": name, "case": number,
                                  "seconds": statistics.median(seconds(calls) for _ in range(5))}), flush=True)
        except RuntimeError:
            pass  # this one does not take the case
)python";

}  // namespace

Peers measure_peers(const std::vector<PeerCase>& cases, int ordinal, const std::string& python) {
  Json list = Json::array();
  for (const PeerCase& of : cases) {
    list.push_back({{"variant", of.variant},
                    {"direction", of.direction},
                    {"dtype", of.dtype},
                    {"dim", of.dim},
                    {"queries", of.queries},
                    {"keys", of.keys},
                    {"batch", of.batch},
                    {"heads", of.heads},
                    {"kv_heads", of.kv_heads}});
  }
  Peers peers;
  const std::string command =
      fmt::format("{} -c {} {} {}", quoted(python), quoted(kProgram), quoted(list.dump()), ordinal);
  for (const std::string& line : run_child(command).lines) {
    const Json answer = Json::parse(line, nullptr, false);
    if (answer.is_discarded() || !answer.contains("seconds")) {
      peers.problem = line;
      continue;
    }
    peers.rates.push_back({answer["peer"], cases[answer["case"].get<std::size_t>()], answer["seconds"]});
  }
  if (peers.rates.empty() && peers.problem.empty()) peers.problem = fmt::format("{} measured none", python);
  return peers;
}

}  // namespace tilewise::cli
