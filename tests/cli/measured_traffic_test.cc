// A call's traffic is what a profiler counts, less what precedes the call; where it counts nothing its reason is told.
#include "apps/cli/measured_traffic.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/temporary_folder.h"

namespace tilewise::cli {
namespace {

/// A program in Nsight Compute's place: a shell's script.
class Profiler {
 public:
  explicit Profiler(const std::string& script) {
    std::ofstream(path()) << "#!/bin/sh\n" << script;
    std::filesystem::permissions(path(), std::filesystem::perms::owner_all);
  }
  std::string path() const { return folder_ / "ncu with a space"; }

 private:
  TemporaryFolder folder_;
};

/// Counts, as Nsight Compute 2025.3 prints them: 1,000 bytes read in front of all calls; 2,000,000 read and 300,000
/// written in a forward call; 5,000,000 and 1,500,000, by two kernels, in a backward call.
constexpr const char* kCounts = R"sh(
case "$*" in *"--metrics dram__bytes_read.sum,dram__bytes_write.sum"*) ;; *) echo "wrong options: $*"; exit 1 ;; esac
for last in "$@"; do :; done
row() {
  echo "\"$id\",\"7\",\"tilewise\",\"127.0.0.1\",\"kernel\",\"1\",\"7\",\"(128, 1, 1)\",\"(9, 1, 1)\",\"0\",\"9.0\",\"Command line profiler metrics\",\"dram__bytes_read.sum\",\"byte\",\"$1\""
  echo "\"$id\",\"7\",\"tilewise\",\"127.0.0.1\",\"kernel\",\"1\",\"7\",\"(128, 1, 1)\",\"(9, 1, 1)\",\"0\",\"9.0\",\"Command line profiler metrics\",\"dram__bytes_write.sum\",\"byte\",\"$2\",\"\",\"\""
  id=$((id + 1))
}
echo "==PROF== Connected to process 7"
id=0
row 1,000 0
for i in $(seq 1 ${last%,*}); do row 2,000,000 300,000; done
for i in $(seq 1 ${last#*,}); do row 4,000,000 1,500,000; row 1,000,000 0; done
)sh";

TEST(MeasuredTraffic, IsOfOneCall) {
  const Profiler profiler(kCounts);
  const MeasuredTraffic forward = measure_traffic(profiler.path(), "anything --calls", false);
  EXPECT_EQ(forward.problem, "");
  EXPECT_EQ(forward.forward, (Traffic{2e6, 3e5}));
  EXPECT_FALSE(forward.backward);
  EXPECT_EQ(measured_text(forward), "forward 2.3 MB: 2 read, 0.3 written");

  const MeasuredTraffic both = measure_traffic(profiler.path(), "anything --calls", true);
  EXPECT_EQ(both.forward, (Traffic{2e6, 3e5}));
  EXPECT_EQ(both.backward, (Traffic{5e6, 1.5e6}));
  EXPECT_EQ(measured_text(both), "forward 2.3 MB: 2 read, 0.3 written; backward 6.5 MB: 5 read, 1.5 written");
}

TEST(MeasuredTraffic, TellsWhyThereIsNone) {
  const auto told = [](const std::string& ncu) { return measured_text(measure_traffic(ncu, "anything", true)); };
  EXPECT_EQ(told(""), "not measured: no program to read hardware counters by was asked for");
  EXPECT_EQ(told("/no/such/ncu"),
            "not measured: there is no '/no/such/ncu' here; it comes with the CUDA toolkit, as Nsight Compute");
  EXPECT_EQ(told(Profiler("exit 0").path()).substr(0, 14), "not measured: ");
  const char* const refused = R"(
echo "==PROF== Connected to process 7"
echo "==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access NVIDIA GPU Performance Counters"
echo "==PROF== Disconnected")";
  EXPECT_EQ(told(Profiler(refused).path()),
            "not measured: ==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access NVIDIA GPU "
            "Performance Counters");
  // A program that fails under the profiler, whose counts are not of all calls.
  EXPECT_EQ(told(Profiler(std::string(kCounts) + "echo 'tilewise: no memory'; exit 9").path()),
            "not measured: tilewise: no memory");
}

}  // namespace
}  // namespace tilewise::cli
