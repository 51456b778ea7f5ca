#include "jit/compiler.h"

#include <condition_variable>
#include <optional>

#include "core/fail.h"
#include "jit/compile_error.h"
#include "jit/nvrtc.h"

namespace tilewise::jit {
namespace {

// A failure as plain values. Each thread that waited throws an exception of its own from it: one exception object
// shared between threads would be written by whoever catches it.
struct Failure {
  ErrorCode code;
  std::string message;
  std::optional<std::string> log;  // present for a CompileError
  std::vector<Diagnostic> diagnostics;

  [[noreturn]] void raise() const {
    if (log) throw CompileError(message, *log, diagnostics);
    throw Error(code, message);
  }
};

Failure failure_in_flight() {
  try {
    throw;
  } catch (const CompileError& error) {
    return {error.code(), error.what(), error.log(), error.diagnostics()};
  } catch (const Error& error) {
    return {error.code(), error.what(), std::nullopt, {}};
  } catch (const std::bad_alloc&) {
    return {ErrorCode::out_of_memory, "the host's memory ran out while compiling a kernel", std::nullopt, {}};
  } catch (const std::exception& error) {
    return {ErrorCode::device, fmt::format("compiling a kernel failed: {}", error.what()), std::nullopt, {}};
  }
}

}  // namespace

// One program's place in memory, from the moment that somebody asks for it.
struct Compiler::Slot {
  std::mutex mutex;
  std::condition_variable done;
  std::shared_ptr<const Binary> binary;
  std::optional<Failure> failure;

  void settle(std::shared_ptr<const Binary> result, std::optional<Failure> reason) {
    const std::lock_guard<std::mutex> lock(mutex);
    binary = std::move(result);
    failure = std::move(reason);
    done.notify_all();
  }

  std::shared_ptr<const Binary> wait() {
    std::unique_lock<std::mutex> lock(mutex);
    done.wait(lock, [&] { return binary != nullptr || failure; });
    if (failure) failure->raise();
    return binary;
  }
};

Backend Backend::nvrtc() {
  return {[] { return Nvrtc::instance().identity(); },
          [](const Program& program) { return Nvrtc::instance().compile(program); }};
}

Compiler::Compiler(Backend backend, DiskCacheOptions disk) : backend_(std::move(backend)), disk_(std::move(disk)) {}

Compiler::~Compiler() = default;

Compiler& Compiler::instance() {
  static Compiler compiler(Backend::nvrtc(), DiskCacheOptions::from_environment());
  return compiler;
}

std::shared_ptr<const Binary> Compiler::get(const Program& program) { return fetch(program, false); }

std::shared_ptr<const Binary> Compiler::rebuild(const Program& program) { return fetch(program, true); }

std::shared_ptr<const Binary> Compiler::fetch(const Program& program, bool rebuild) {
  validate(program);
  const Key key = key_of(program);
  const auto fresh = std::make_shared<Slot>();
  std::shared_ptr<Slot> slot;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    slot = rebuild ? slots_[key] = fresh : slots_.try_emplace(key, fresh).first->second;
  }
  if (slot != fresh) {
    std::shared_ptr<const Binary> binary = slot->wait();
    count(&Counts::from_memory);
    return binary;
  }
  try {
    slot->settle(produce(key, program, rebuild), std::nullopt);
  } catch (...) {
    {
      // Out of the map first, so that whoever asks from now on tries again.
      const std::lock_guard<std::mutex> lock(mutex_);
      const auto found = slots_.find(key);
      if (found != slots_.end() && found->second == slot) slots_.erase(found);
    }
    slot->settle(nullptr, failure_in_flight());
  }
  return slot->wait();
}

std::shared_ptr<const Binary> Compiler::produce(const Key& key, const Program& program, bool rebuild) {
  // A compiler that is missing only matters where one has to be told from another, or something compiled.
  const auto own_compiler = [&]() -> std::string {
    try {
      return backend_.identity();
    } catch (const Error&) {
      return "";
    }
  };
  if (!rebuild) {
    if (std::optional<Binary> binary = disk_.find(key, own_compiler)) {
      count(&Counts::from_disk);
      return std::make_shared<const Binary>(std::move(*binary));
    }
  }
  count(&Counts::compiled);
  auto binary = std::make_shared<const Binary>(backend_.compile(program));
  if (!disk_.store(key, *binary)) count(&Counts::not_kept);
  return binary;
}

void Compiler::count(std::int64_t Counts::*way) {
  const std::lock_guard<std::mutex> lock(mutex_);
  ++(counts_.*way);
}

Compiler::Counts Compiler::counts() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return counts_;
}

}  // namespace tilewise::jit
