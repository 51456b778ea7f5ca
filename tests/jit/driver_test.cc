// The driver's wrappers, against a driver of our own that has no GPU.
#include "jit/driver.h"

#include <array>
#include <optional>

#include "jit/device.h"
#include "jit/driver_error.h"
#include "jit/kernel_chain.h"
#include "jit/module.h"
#include "tests/jit/support.h"
#include "tests/jit/with_fake_driver.h"

namespace tilewise::jit {
namespace {

class DriverTest : public WithFakeDriver {
 protected:
  static Driver open() { return Driver::open({"libcuda.so.99", TILEWISE_FAKE_DRIVER}); }

  // The error of a call that must fail.
  template <class Call>
  DriverError error_of(Call call) {
    try {
      call();
    } catch (const DriverError& error) {
      return error;
    }
    ADD_FAILURE() << "no DriverError";
    return {0, DriverFailure::other, ""};
  }
};

bool holds(const Error& error, const std::string& part) {
  return std::string(error.what()).find(part) != std::string::npos;
}

// ---- opening ----

TEST_F(DriverTest, TheFirstCandidateThatOpensIsTaken) {
  const Driver driver = open();
  EXPECT_EQ(driver.version(), 12040);
  EXPECT_EQ(driver.path(), TILEWISE_FAKE_DRIVER);
}

TEST_F(DriverTest, WithoutADriverTheErrorSaysWhereItWasLookedFor) {
  try {
    Driver::open({"libcuda.so.99", "/nowhere/libcuda.so.1"});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::device);
    for (const char* part : {"CUDA driver", "libcuda.so.99: ", "/nowhere/libcuda.so.1: no such file", "install"}) {
      EXPECT_TRUE(holds(error, part)) << error.what();
    }
  }
}

TEST_F(DriverTest, AnOldDriverIsNamedWithWhatIsNeeded) {
  fake_->version = 11040;
  try {
    open();
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::device);
    for (const char* part : {"11.4", "11.8", "update"}) EXPECT_TRUE(holds(error, part)) << error.what();
  }
}

TEST_F(DriverTest, StartingFailuresAreTyped) {
  const std::map<int, DriverFailure> failures = {{34, DriverFailure::wrong_driver},
                                                 {100, DriverFailure::no_device},
                                                 {803, DriverFailure::wrong_driver},
                                                 {999, DriverFailure::other}};
  for (const auto& [result, failure] : failures) {
    fake_->results["cuInit"] = result;
    const DriverError error = error_of(open);
    EXPECT_EQ(error.failure(), failure);
    EXPECT_EQ(error.result(), result);
    EXPECT_EQ(error.code(), ErrorCode::device);
    EXPECT_TRUE(holds(error, "CUDA_ERROR_OF_SOME_NAME")) << error.what();
    EXPECT_TRUE(holds(error, advice_for(failure))) << error.what();
  }
}

TEST_F(DriverTest, EveryFailureThatCanBeActedUponSaysHow) {
  for (const DriverFailure failure :
       {DriverFailure::no_device, DriverFailure::wrong_driver, DriverFailure::wrong_binary,
        DriverFailure::out_of_memory, DriverFailure::device_lost}) {
    EXPECT_STRNE(advice_for(failure), "");
  }
}

// ---- devices ----

TEST_F(DriverTest, DevicesAreListedAsTheDriverDescribesThem) {
  const std::vector<DeviceInfo> devices = list_devices(open());
  ASSERT_EQ(devices.size(), 2u);
  const DeviceInfo& device = devices[1];
  EXPECT_EQ(device.ordinal, 1);
  EXPECT_EQ(device.name, "Fake GPU 1");
  EXPECT_EQ(device.pci_bus, "0000:17:00");
  EXPECT_EQ(device.architecture().name(), "sm_90a");
  EXPECT_EQ(device.multiprocessors, 132);
  EXPECT_EQ(device.registers_per_multiprocessor, 65536);
  EXPECT_EQ(device.shared_bytes_per_multiprocessor, 233472);
  EXPECT_EQ(device.shared_bytes_per_block, 232448);
  EXPECT_EQ(device.l2_bytes, 60 << 20);
  EXPECT_EQ(device.memory_bytes, std::int64_t{141} << 30);
  EXPECT_EQ(device.memory_bus_bits, 6144);
  EXPECT_EQ(device.clock_khz, 1980000);
  EXPECT_EQ(device.memory_clock_khz, 3201000);
}

TEST_F(DriverTest, ClocksThatTheDriverNoLongerTellsAreUnknown) {
  fake_->knows_clocks = false;
  EXPECT_EQ(describe_device(open(), 0).clock_khz, 0);
}

TEST_F(DriverTest, AGpuThatIsNotThereIsRefusedByNumber) {
  const Driver driver = open();
  for (const int ordinal : {-1, 2}) {
    const DriverError error = error_of([&] { Context(driver, ordinal); });
    EXPECT_EQ(error.failure(), DriverFailure::no_device);
    EXPECT_TRUE(holds(error, "GPU " + std::to_string(ordinal))) << error.what();
  }
}

// ---- modules and launches ----

class ModuleTest : public DriverTest {
 protected:
  void SetUp() override {
    DriverTest::SetUp();
    driver_ = std::make_unique<Driver>(open());
    context_ = std::make_shared<Context>(*driver_, 1);
  }

  std::shared_ptr<const Module> load(const std::string& code = "code") {
    return Module::load(context_, std::make_shared<Binary>(made_up_binary(code)));
  }

  std::unique_ptr<Driver> driver_;
  std::shared_ptr<const Context> context_;
};

TEST_F(ModuleTest, ALaunchReachesTheDriverAsItIsMeant) {
  const Kernel kernel = load()->kernel("add_one", 100000);
  EXPECT_EQ(fake_->last_function, "_Z7add_one");
  const auto stream = reinterpret_cast<StreamHandle>(&driver_);
  kernel(
      {.grid = {6, 2, 3}, .block = {128, 4, 5}, .cluster = {2, 1, 3}, .dynamic_shared_bytes = 100000, .stream = stream},
      42, 1.0f);
  EXPECT_EQ(fake_->grid, (std::array<unsigned, 3>{6, 2, 3}));
  EXPECT_EQ(fake_->block, (std::array<unsigned, 3>{128, 4, 5}));
  EXPECT_EQ(fake_->cluster, (std::array<unsigned, 3>{2, 1, 3}));
  EXPECT_EQ(fake_->dynamic_shared_bytes, 100000u);
  EXPECT_EQ(fake_->stream, stream);
  EXPECT_EQ(fake_->first_argument, 42);
  EXPECT_EQ(fake_->launch_context, 1);
}

TEST_F(ModuleTest, WithoutAClusterTheLaunchHasNoAttribute) {
  load()->kernel("add_one")({}, 0);
  EXPECT_EQ(fake_->attribute_count, 0u);
}

TEST_F(ModuleTest, TheCallersContextIsCurrentAgainAfterwards) {
  const Context other(*driver_, 0);
  {
    const CurrentContext current(other);
    const Kernel kernel = load()->kernel("add_one");
    kernel({}, 0);
    EXPECT_EQ(fake_->launch_context, 1);
    EXPECT_EQ(fake_->stack, std::vector<int>{0});
  }
  EXPECT_TRUE(fake_->stack.empty());
}

TEST_F(ModuleTest, AKernelKeepsItsModuleAndItsContext) {
  {
    const Kernel kernel = load()->kernel("add_one");
    context_.reset();
    EXPECT_EQ(fake_->modules, 1);
    EXPECT_EQ(fake_->contexts, 1);
    kernel({}, 0);
  }
  EXPECT_EQ(fake_->modules, 0);
  EXPECT_EQ(fake_->contexts, 0);
}

TEST_F(ModuleTest, SharedMemoryIsHeldToWhatABlockCanHave) {
  const std::shared_ptr<const Module> module = load();
  // The fake GPU's blocks can have 232448 bytes, of which the kernel's static ones take 4096.
  const Kernel kernel = module->kernel("add_one", 228352);
  EXPECT_EQ(fake_->max_dynamic_shared_bytes, 228352);
  try {
    module->kernel("add_one", 228353);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    for (const char* part : {"228353", "4096", "232448", "Fake GPU 1"}) EXPECT_TRUE(holds(error, part)) << error.what();
  }
  EXPECT_THROW(module->kernel("add_one", 1000)({.dynamic_shared_bytes = 1001}, 0), Error);
  EXPECT_EQ(fake_->max_dynamic_shared_bytes, 228352) << "a smaller Kernel must not shrink the first";
  EXPECT_NO_THROW(kernel({.dynamic_shared_bytes = 228352}, 0));
}

TEST_F(ModuleTest, AnUnknownKernelIsRefused) { EXPECT_THROW(load()->kernel("add_two"), Error); }

TEST_F(ModuleTest, FailuresAreTypedAndSayWhatToDo) {
  const std::shared_ptr<const Module> module = load();
  const Kernel kernel = module->kernel("add_one");
  fake_->results = {{"cuModuleLoadData", 2}, {"cuLaunchKernelEx", 700}, {"cuDevicePrimaryCtxRetain", 2}};
  const DriverError memory = error_of([&] { load(); });
  EXPECT_EQ(memory.failure(), DriverFailure::out_of_memory);
  EXPECT_EQ(memory.code(), ErrorCode::out_of_memory);
  EXPECT_EQ(error_of([&] { Context(*driver_, 0); }).failure(), DriverFailure::out_of_memory);
  const DriverError lost = error_of([&] { kernel({.grid = {7, 1, 1}}, 0); });
  EXPECT_EQ(lost.failure(), DriverFailure::device_lost);
  for (const char* part : {"add_one", "7 x 1 x 1", "restart"}) EXPECT_TRUE(holds(lost, part)) << lost.what();
  fake_->results = {{"cuModuleLoadData", 209}};
  const DriverError binary = error_of([&] { load(); });
  EXPECT_EQ(binary.failure(), DriverFailure::wrong_binary);
  for (const char* part : {"nvrtc-13.0", "sm_80", "Fake GPU 1", "9.0", "TILEWISE_NVRTC"}) {
    EXPECT_TRUE(holds(binary, part)) << binary.what();
  }
  EXPECT_EQ(fake_->modules, 1) << "what failed to load is not counted as loaded";
}

// ---- programs whose kept binary the driver does not take ----

class LoadProgram : public ModuleTest {
 protected:
  // A compiler of that version, whose code says which it is, over one folder.
  Compiler compiler(const std::string& version) {
    DiskCacheOptions options;
    options.folder = folder_.path();
    return Compiler({[version] { return version; },
                     [version](const Program&) { return made_up_binary("made by " + version, version); }},
                    options);
  }

  TemporaryFolder folder_;
};

TEST_F(LoadProgram, AnotherCompilersBinaryIsTakenWhereItLoads) {
  compiler("nvrtc-99.0").get(small_program());
  Compiler own = compiler("nvrtc-12.4");
  EXPECT_EQ(load_program(own, small_program(), context_)->binary().compiler, "nvrtc-99.0");
}

TEST_F(LoadProgram, AnotherCompilersBinaryIsCompiledAnewWhereItDoesNot) {
  fake_->refused_code = "made by nvrtc-99.0";
  compiler("nvrtc-99.0").get(small_program());
  Compiler own = compiler("nvrtc-12.4");
  EXPECT_EQ(load_program(own, small_program(), context_)->binary().compiler, "nvrtc-12.4");
  EXPECT_EQ(own.counts().compiled, 1);
}

TEST_F(LoadProgram, ItsOwnCompilersBinaryIsNotCompiledTwice) {
  fake_->refused_code = "made by";
  Compiler own = compiler("nvrtc-12.4");
  EXPECT_EQ(error_of([&] { load_program(own, small_program(), context_); }).failure(), DriverFailure::wrong_binary);
  EXPECT_EQ(own.counts().compiled, 1);
}

TEST_F(LoadProgram, WithoutACompilerTheDriversErrorStands) {
  fake_->refused_code = "made by";
  compiler("nvrtc-99.0").get(small_program());
  DiskCacheOptions options;
  options.folder = folder_.path();
  Compiler none({[]() -> std::string { throw Error(ErrorCode::device, "no NVRTC"); }, nullptr}, options);
  EXPECT_EQ(error_of([&] { load_program(none, small_program(), context_); }).failure(), DriverFailure::wrong_binary);
}

// ---- kernels one behind the other ----

class ChainTest : public ModuleTest {
 protected:
  void SetUp() override {
    ModuleTest::SetUp();
    kernel_ = load()->kernel("add_one", 1000);
  }

  // Three of them, whose first arguments and blocks are counted up from these; one in clusters, and one that begins
  // early.
  struct Kinds {
    std::optional<std::size_t> begins_early, in_clusters;
  };
  void launch(int argument, unsigned blocks, const Kinds& kinds) {
    std::array<int, 3> values = {argument, argument + 1, argument + 2};
    std::array<void*, 3> pointers = {&values[0], &values[1], &values[2]};
    std::array<ChainLink, 3> links;
    for (unsigned i = 0; i < links.size(); ++i) {
      links[i] = {&*kernel_, {.grid = {blocks + i, 1, 1}, .begins_early = kinds.begins_early == i}, &pointers[i]};
      if (kinds.in_clusters == i) links[i].shape.cluster = {2, 1, 1};
    }
    chain_->launch(links, stream_);
  }
  void launch(int argument, unsigned blocks) { launch(argument, blocks, Kinds()); }
  void expect_nodes(int argument, unsigned blocks) const {
    ASSERT_EQ(fake_->nodes.size(), 3u);
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(fake_->nodes[i].first_argument, argument + static_cast<int>(i));
      EXPECT_EQ(fake_->nodes[i].blocks, blocks + i);
    }
  }

  std::optional<Kernel> kernel_;
  std::optional<KernelChain> chain_{std::in_place};
  StreamHandle stream_ = reinterpret_cast<StreamHandle>(&kernel_);
};

TEST_F(ChainTest, OneGraphIsMadeAndThenSet) {
  launch(10, 4);
  expect_nodes(10, 4);
  EXPECT_EQ(fake_->settings, 0);
  launch(20, 7);
  launch(30, 9);
  expect_nodes(30, 9);
  EXPECT_EQ(fake_->graph_launches, 3);
  EXPECT_EQ(fake_->settings, 6);
  EXPECT_EQ(fake_->graphs, 1);
  EXPECT_EQ(fake_->launches, 0);
  EXPECT_EQ(fake_->stream, stream_);
  chain_.reset();
  EXPECT_EQ(fake_->graphs, 0);
  EXPECT_EQ(fake_->ready_graphs, 0);
}

TEST_F(ChainTest, AGraphThatCannotBeSetIsMadeAnew) {
  launch(10, 4);
  fake_->results["cuGraphExecKernelNodeSetParams_v2"] = 1;
  launch(20, 7);
  expect_nodes(20, 7);
  EXPECT_EQ(fake_->graph_launches, 2);
  EXPECT_EQ(fake_->graphs, 1);
  EXPECT_EQ(fake_->ready_graphs, 1);
}

TEST_F(ChainTest, KernelsInClustersAndSuchThatBeginEarlyJoin) {
  const Kinds kinds{.begins_early = 1, .in_clusters = 2};
  for (const int argument : {10, 20}) {
    launch(argument, 4, kinds);
    expect_nodes(argument, 4);
    for (const std::size_t i : {0u, 1u, 2u}) {
      EXPECT_EQ(fake_->nodes[i].begins_early, i == 1);
      EXPECT_EQ(fake_->nodes[i].cluster, i == 2 ? 2u : 1u);
    }
  }
  EXPECT_EQ(fake_->settings, 3);
  launch(30, 4, {.begins_early = 2, .in_clusters = std::nullopt});  // another graph
  expect_nodes(30, 4);
  EXPECT_TRUE(fake_->nodes[2].begins_early);
  EXPECT_FALSE(fake_->nodes[1].begins_early);
  EXPECT_EQ(fake_->nodes[2].cluster, 1u);
  EXPECT_EQ(fake_->graph_launches, 3);
  EXPECT_EQ(fake_->graphs, 1);
  EXPECT_EQ(fake_->launches, 0);
}

TEST_F(ChainTest, WhatIsCapturedOrBeginsEarlyFirstIsLaunchedOneByOne) {
  fake_->capture_status = 1;
  launch(10, 4);
  EXPECT_EQ(fake_->launches, 3);
  EXPECT_EQ(fake_->first_argument, 12);
  EXPECT_EQ(fake_->stream, stream_);
  EXPECT_EQ(fake_->graphs, 0);
  fake_->capture_status = 0;
  launch(20, 4, {.begins_early = 0, .in_clusters = std::nullopt});
  EXPECT_EQ(fake_->launches, 6);
  EXPECT_EQ(fake_->first_argument, 22);
  EXPECT_EQ(fake_->graphs, 0);
}

TEST_F(ChainTest, FailuresAreTyped) {
  fake_->results["cuGraphInstantiateWithFlags"] = 2;
  EXPECT_THROW(launch(10, 4), DriverError);
  fake_->results.clear();
  for (const char* call : {"cuGraphAddDependencies_v2", "cuGraphKernelNodeSetAttribute"}) {
    fake_->results[call] = 1;
    EXPECT_THROW(launch(10, 4, {.begins_early = 1, .in_clusters = 2}), DriverError) << call;
    fake_->results.clear();
  }
  launch(20, 4);  // made anew
  expect_nodes(20, 4);
  fake_->results["cuGraphLaunch"] = 700;
  EXPECT_THROW(launch(30, 4), DriverError);
}

}  // namespace
}  // namespace tilewise::jit
