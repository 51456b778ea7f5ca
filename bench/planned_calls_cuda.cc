// What does a planned call cost on the GPU at hand: the host's time until it is queued, and the time that the GPU takes
// for decoding, from storage in one piece and from pages, in turns, and for latent attention's?
//
// Usage: bench_planned_calls_cuda [rounds] [host | decoding | latent ...]: those parts, by default all
// Host: the mean over 200 calls queued on an idle GPU, the median of 20 such runs. Decoding: bytes of keys and values
// that a call reads, each once, over the time of calls queued one behind the other; caches are beyond the second-level
// cache. Latent: values are the first 512 of a key's 576 columns; 2 (576 + 512) operations a head and key.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "tilewise/attention.h"
#include "tilewise/gpu_memory.h"
#include "tilewise/zoo.h"

namespace {

using namespace tilewise;  // NOLINT(google-build-using-namespace): this file has no other subject

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

double median(std::vector<double> values) {
  std::ranges::nth_element(values, values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2));
  return values[values.size() / 2];
}

/// A tensor of bfloat16 on the GPU, small numbers without a pattern.
class GpuTensor {
 public:
  explicit GpuTensor(std::vector<std::int64_t> extents)
      : extents_(std::move(extents)), memory_(bytes(), Device::cuda()) {
    std::vector<std::uint16_t> bits(static_cast<std::size_t>(bytes() / 2));
    std::uint64_t state = 88172645463325252u;
    for (std::uint16_t& one : bits) {
      state ^= state << 13, state ^= state >> 7, state ^= state << 17;
      one = static_cast<std::uint16_t>((state & 0x807f) | ((124 + (state >> 20) % 4) << 7));
    }
    memory_.upload(std::as_bytes(std::span(bits)));
  }
  Tensor view(DType dtype = DType::bfloat16) const { return Tensor(memory_.data(), dtype, extents_); }
  std::int64_t bytes() const {
    std::int64_t elements = 1;
    for (const std::int64_t extent : extents_) elements *= extent;
    return 2 * elements;
  }

 private:
  std::vector<std::int64_t> extents_;
  GpuMemory memory_;
};

/// Microseconds that a call takes the host.
double host_time(const std::function<void()>& call) {
  constexpr int kRuns = 20, kCalls = 200;
  call();
  std::vector<double> runs;
  for (int run = 0; run < kRuns; ++run) {
    synchronize(Device::cuda());
    const double begin = now();
    for (int i = 0; i < kCalls; ++i) call();
    runs.push_back((now() - begin) / kCalls * 1e6);
  }
  synchronize(Device::cuda());
  return median(runs);
}

double gpu_seconds(const std::function<void()>& call, int calls) {
  synchronize(Device::cuda());
  const double begin = now();
  for (int i = 0; i < calls; ++i) call();
  synchronize(Device::cuda());
  return (now() - begin) / calls;
}

/// Small calls, of which the host's part is all that is asked for.
void tell_host_times() {
  const std::int64_t h = 8, s = 128, d = 64;
  const GpuTensor q({1, h, s, d}), k({1, h, s, d}), v({1, h, s, d}), o({1, h, s, d}), lse({1, h, s, 2});
  const GpuTensor d_o({1, h, s, d}), d_q({1, h, s, d}), d_k({1, h, s, d}), d_v({1, h, s, d});
  Tensor lse_view = lse.view();
  lse_view = Tensor(lse_view.data, DType::float32, {1, h, s});
  for (const auto& [name, variant] : {std::pair{"plain", Variant()}, {"causal", zoo::causal()}}) {
    PlanShape shape{
        .dtype = DType::bfloat16, .h_q = h, .h_kv = h, .d_qk = d, .d_v = d, .s_q = s, .s_kv = s, .backward = true};
    const Plan plan = Attention(variant).plan(shape, Device::cuda());
    Workspace workspace(plan.workspace_bytes(), Device::cuda());
    const ForwardInputs inputs{.q = q.view(), .k = k.view(), .v = v.view()};
    const auto forward = [&] { plan.forward(inputs, {.o = o.view(), .lse = lse_view}, workspace); };
    const BackwardInputs given{.o = ConstTensor(o.view()), .lse = ConstTensor(lse_view), .d_o = d_o.view()};
    const auto backward = [&] {
      plan.backward(inputs, given, {.d_q = d_q.view(), .d_k = d_k.view(), .d_v = d_v.view()}, workspace);
    };
    fmt::print("host, forward, {}: {:.2f} us\n", name, host_time(forward));
    fmt::print("host, backward, {}: {:.2f} us\n", name, host_time(backward));
    shape.s_q = 1, shape.backward = false;
    const Plan decoding = Attention(variant).plan(shape, Device::cuda());
    Workspace small(decoding.workspace_bytes(), Device::cuda());
    const ConstTensor one(q.view().data, DType::bfloat16, {1, h, 1, d});
    const Tensor o_one(o.view().data, DType::bfloat16, {1, h, 1, d});
    fmt::print("host, decoding, {}: {:.2f} us\n", name,
               host_time([&] { decoding.forward({.q = one, .k = k.view(), .v = v.view()}, {.o = o_one}, small); }));
  }
}

struct DecodeCase {
  std::int64_t b, h_q, h_kv, s;
};

void tell_decoding(const DecodeCase& c, int rounds) {
  constexpr std::int64_t kD = 128;
  const GpuTensor q({c.b, c.h_q, 1, kD}), o({c.b, c.h_q, 1, kD});
  const GpuTensor k({c.b, c.h_kv, c.s, kD}), v({c.b, c.h_kv, c.s, kD});
  const double bytes = static_cast<double>(k.bytes() + v.bytes());
  const Plan plan = Attention().plan(
      {.dtype = DType::bfloat16, .b = c.b, .h_q = c.h_q, .h_kv = c.h_kv, .d_qk = kD, .d_v = kD, .s_q = 1, .s_kv = c.s},
      Device::cuda());
  Workspace workspace(plan.workspace_bytes(), Device::cuda());
  std::vector<std::string> names{"one piece"};
  std::vector<std::function<void()>> calls;
  calls.emplace_back([&] { plan.forward({.q = q.view(), .k = k.view(), .v = v.view()}, {.o = o.view()}, workspace); });
  std::vector<GpuMemory> tables;
  std::vector<ForwardInputs> paged;
  for (const std::int64_t page : {16, 64, 128}) {
    const std::int64_t pages = c.b * c.s / page;
    std::vector<std::int32_t> table(static_cast<std::size_t>(pages));
    for (std::int64_t i = 0; i < pages; ++i)  // in no order
      table[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(i * 7919 % pages);
    tables.emplace_back(pages * 4, Device::cuda());
    tables.back().upload(std::as_bytes(std::span(table)));
    const auto view = [&](const GpuTensor& tensor) {
      return ConstTensor(tensor.view().data, DType::bfloat16, {pages, c.h_kv, page, kD});
    };
    ForwardInputs inputs{.q = q.view(), .k = view(k), .v = view(v)};
    inputs.block_table = ConstTensor(tables.back().data(), DType::int32, {c.b, c.s / page});
    inputs.sequences.assign(static_cast<std::size_t>(c.b), Sequence{.s_q = 1, .s_kv = c.s});
    paged.push_back(std::move(inputs));
    names.push_back(fmt::format("pages of {}", page));
  }
  for (const ForwardInputs& inputs : paged)
    calls.emplace_back([&] { plan.forward(inputs, {.o = o.view()}, workspace); });
  std::vector<std::vector<double>> seconds(calls.size());
  for (int round = 0; round < rounds + 1; ++round) {  // the first compiles and warms up
    for (std::size_t i = 0; i < calls.size(); ++i) {
      const double time = gpu_seconds(calls[i], 200);
      if (round > 0) seconds[i].push_back(time);
    }
  }
  const double first = median(seconds[0]);
  for (std::size_t i = 0; i < calls.size(); ++i) {
    const double time = median(seconds[i]);
    fmt::print("decoding b {} {}/{} s {}, {}: {:.1f} us, {:.0f} GB/s, {:.3f} of one piece\n", c.b, c.h_q, c.h_kv, c.s,
               names[i], time * 1e6, bytes / time * 1e-9, first / time);
  }
}

void tell_latent(const DecodeCase& c, int rounds) {
  constexpr std::int64_t kDepth = 576, kColumns = 512;
  const GpuTensor q({c.b, c.h_q, 1, kDepth}), k({c.b, 1, c.s, kDepth}), o({c.b, c.h_q, 1, kColumns});
  ConstTensor v = k.view();
  v.extents[3] = kColumns;
  const ForwardInputs inputs{.q = q.view(), .k = k.view(), .v = v};
  std::vector<Plan> plans;
  std::vector<std::function<void()>> calls;
  for (const Variant& variant : {Variant(), zoo::causal()}) {
    plans.push_back(Attention(variant).plan({.dtype = DType::bfloat16,
                                             .b = c.b,
                                             .h_q = c.h_q,
                                             .h_kv = 1,
                                             .d_qk = kDepth,
                                             .d_v = kColumns,
                                             .s_q = 1,
                                             .s_kv = c.s},
                                            Device::cuda()));
  }
  std::vector<std::vector<double>> seconds(plans.size());
  std::vector<std::unique_ptr<Workspace>> workspaces;
  for (const Plan& plan : plans) {
    workspaces.push_back(std::make_unique<Workspace>(plan.workspace_bytes(), Device::cuda()));
    calls.emplace_back([&, i = calls.size()] { plans[i].forward(inputs, {.o = o.view()}, *workspaces[i]); });
  }
  for (int round = 0; round < rounds + 1; ++round) {  // the first compiles and warms up
    for (std::size_t i = 0; i < calls.size(); ++i) {
      const double time = gpu_seconds(calls[i], 200);
      if (round > 0) seconds[i].push_back(time);
    }
  }
  const double operations = 2.0 * (kDepth + kColumns) * static_cast<double>(c.b * c.h_q * c.s);
  for (std::size_t i = 0; i < calls.size(); ++i) {
    const double time = median(seconds[i]);
    fmt::print("latent b {}, {} heads, s {}, {}: {:.1f} us, {:.2f} TB/s, {:.0f} TFLOP/s\n", c.b, c.h_q, c.s,
               i == 0 ? "plain" : "causal", time * 1e6, static_cast<double>(k.bytes()) / time * 1e-12,
               operations / time * 1e-12);
  }
}

}  // namespace

int main(int count, char** arguments) {
  const int rounds = count > 1 ? std::atoi(arguments[1]) : 5;
  const std::vector<std::string_view> parts(arguments + std::min(count, 2), arguments + count);
  const auto is_wanted = [&](std::string_view part) {
    return parts.empty() || std::ranges::find(parts, part) != parts.end();
  };
  if (is_wanted("host")) tell_host_times();
  if (is_wanted("decoding")) {
    for (const DecodeCase& c : {DecodeCase{16, 32, 8, 8192}, {1, 32, 8, 65536}, {64, 32, 8, 4096}})
      tell_decoding(c, rounds);
  }
  if (is_wanted("latent")) {
    for (const DecodeCase& c :
         {DecodeCase{16, 128, 1, 8192}, {64, 128, 1, 4096}, {1, 128, 1, 65536}, {16, 16, 1, 8192}})
      tell_latent(c, rounds);
  }
}
