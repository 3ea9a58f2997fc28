// SPDX-License-Identifier: BSL-1.0
//
// What happens when the k-th allocation fails, when the k-th thread cannot be started, alone or
// with all that would follow it, and when a loop is stopped or destroyed after its k-th handler,
// for k = 1, 2, ... until the scenario ends by itself. Each k has a process of its own, so that a
// crash, a hang or a leak is told from the others. A scenario gives its right result,
// std::bad_alloc or a typed error; then the same call works, and nothing that it made is left.
//
//   fault_injection                     everything
//   fault_injection FAULT/SCENARIO K    that one, in this process, with the stack at which the
//                                       fault was made, and that of std::terminate
//
// A program of its own, because it replaces operator new and pthread_create.

#include "support/call_tools.hpp"
#include "support/loop_tools.hpp"
#include "support/process.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/blocking_portal.hpp>
#include <bothworlds/capacity_limiter.hpp>
#include <bothworlds/channel.hpp>
#include <bothworlds/error.hpp>
#include <bothworlds/gather.hpp>
#include <bothworlds/stream.hpp>
#include <bothworlds/sync_to_async.hpp>
#include <bothworlds/task.hpp>
#include <bothworlds/task_group.hpp>
#include <bothworlds/thread_bound.hpp>
#include <bothworlds/thread_sensitive.hpp>
#include <bothworlds/timeout.hpp>
#include <bothworlds/worker_pool.hpp>

#include <boost/asio/thread_pool.hpp>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include <dlfcn.h>
#include <execinfo.h>
#include <pthread.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define TEST_UNDER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TEST_UNDER_ASAN 1
#endif
#endif
#if defined(TEST_UNDER_ASAN)
#include <sanitizer/lsan_interface.h>
#endif

using namespace bothworlds::testing;
using bothworlds::async_to_sync;
using bothworlds::cancel_policy;
using bothworlds::sync_to_async;

// --- the faults ----------------------------------------------------------------------------------

namespace {

/// Counts down; the one that arrives at zero fails, and only that one, or also all that follow.
class fault {
public:
  enum class lasts { once, on };

  void arm(long k, lasts how) noexcept {
    lasts_ = how;
    left_.store(k, std::memory_order_seq_cst);
  }
  /// True if it has happened.
  bool disarm() noexcept { return left_.exchange(0, std::memory_order_seq_cst) < 0; }
  bool strikes() noexcept {
    long left = left_.load(std::memory_order_relaxed);
    do {
      if (left == 0) return false;
      if (left < 0) return lasts_ == lasts::on;
    } while (!left_.compare_exchange_weak(left, left == 1 ? -1 : left - 1));
    if (left != 1) return false;
    if (tells) tell();
    return true;
  }

  bool tells = false;
  static void tell() noexcept {
    void* frames[64];
    ::backtrace_symbols_fd(frames, ::backtrace(frames, 64), STDERR_FILENO);
  }

private:
  std::atomic<lasts> lasts_{lasts::once};
  std::atomic<long> left_{0};
};

fault allocation, thread_start;

void* allocate(std::size_t bytes, std::size_t alignment) {
  if (allocation.strikes()) throw std::bad_alloc();
  void* block = alignment > __STDCPP_DEFAULT_NEW_ALIGNMENT__
                    ? std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment)
                    : std::malloc(bytes != 0 ? bytes : 1);
  if (!block) throw std::bad_alloc();
  return block;
}

}  // namespace

// Not inlined, or g++ compares what is freed with what was allocated, and finds neither by that
// name.
[[gnu::noinline]] void* operator new(std::size_t bytes) { return allocate(bytes, 1); }
[[gnu::noinline]] void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return allocate(bytes, static_cast<std::size_t>(alignment));
}
[[gnu::noinline]] void operator delete(void* block) noexcept { std::free(block); }
[[gnu::noinline]] void operator delete(void* block, std::size_t) noexcept { std::free(block); }
[[gnu::noinline]] void operator delete(void* block, std::align_val_t) noexcept { std::free(block); }
[[gnu::noinline]] void operator delete(void* block, std::size_t, std::align_val_t) noexcept {
  std::free(block);
}

extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                              void* (*run)(void*), void* argument) {
  using function = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  static const auto real = reinterpret_cast<function>(::dlsym(RTLD_NEXT, "pthread_create"));
  if (thread_start.strikes()) return EAGAIN;
  return real(thread, attributes, run, argument);
}

// --- the scenarios -------------------------------------------------------------------------------

namespace {

/// What a callable or coroutine holds, to see that it is let go of.
class tracked {
public:
  tracked() { ++alive; }
  tracked(const tracked&) noexcept { ++alive; }
  tracked& operator=(const tracked&) = default;
  ~tracked() { --alive; }
  static inline std::atomic<int> alive{0};
};

awaitable<int> nest(int depth) {
  const tracked here;
  auto callable = [depth, held = tracked()] {
    return depth == 0 ? 42 : async_to_sync([=]() -> awaitable<int> { return nest(depth - 1); })();
  };
  auto wrapped = sync_to_async(callable);
  const int got = co_await wrapped();
  co_return got;
}

awaitable<int> sensitive() {
  auto callable = [held = tracked()] { return async_to_sync(sensitive_answer)(); };
  auto wrapped = sync_to_async(callable, thread_sensitive);
  const int got = co_await wrapped();
  co_return got;
}

awaitable<int> in_context() {
  auto body = [held = tracked()]() -> awaitable<int> {
    const int got = co_await sensitive();
    co_return got;
  };
  const int got = co_await bothworlds::with_thread_sensitive_context(body);
  co_return got;
}

struct wait_until_asked {
  std::shared_ptr<gate> leave;
  tracked held;

  int operator()(std::stop_token asked) const {
    const std::stop_callback on_stop(asked, [this] { leave->open(); });
    leave->wait();
    return 42;
  }
};

/// What the children of a scenario use. Memory may be short at any moment, so each owns it with the
/// others.
struct one_worker {
  bothworlds::worker_pool pool{bothworlds::worker_pool_options{.soft_limit = 1, .hard_limit = 1}};
  std::shared_ptr<gate> leave = std::make_shared<gate>();
};

/// Cancels the child and waits for its end; what it ends with, other than the cancellation.
awaitable<std::exception_ptr> settle(const child_task& task) {
  try {
    task.cancel();
    co_await task.join();
  } catch (const boost::system::system_error& e) {
    if (!is_cancellation(e)) co_return std::current_exception();
  } catch (...) {
    co_return std::current_exception();
  }
  co_return nullptr;
}

/// Two calls are cancelled: one that stands in the queue, and one that runs, which ends as the
/// policy says.
awaitable<int> cancelled(cancel_policy policy) {
  auto executor = co_await asio::this_coro::executor;
  auto shared = std::make_shared<one_worker>();
  const struct on_exit {
    std::shared_ptr<gate> opened;
    ~on_exit() { opened->open(); }
  } at_the_end{shared->leave};
  const auto child = [&] {
    return child_task(executor, [shared, policy]() -> awaitable<void> {
      const wait_until_asked callable{shared->leave, {}};
      auto call = sync_to_async(callable, {.pool = &shared->pool, .on_cancel = policy});
      co_await call();
    });
  };
  const child_task running = child(), queued = child();
  co_await yield_to_loop();
  const std::exception_ptr first = co_await settle(queued);
  const std::exception_ptr second = co_await settle(running);
  for (const std::exception_ptr& failure : {first, second})
    if (failure) std::rethrow_exception(failure);
  co_return 42;
}

awaitable<int> limited() {
  auto executor = co_await asio::this_coro::executor;
  auto one = std::make_shared<bothworlds::capacity_limiter>(1);
  auto sum = std::make_shared<int>(0);
  const auto child = [&] {
    return child_task(executor, [one, sum]() -> awaitable<void> {
      auto half = [held = tracked()] { return 21; };
      auto call = sync_to_async(half, {.limiter = one.get()});
      const int got = co_await call();
      *sum += got;
    });
  };
  const child_task first = child(), second = child();
  co_await first.join();
  co_await second.join();
  co_return *sum;
}

awaitable<int> grouped() {
  auto body = [held = tracked()](bothworlds::task_group& group) -> awaitable<int> {
    const auto plain = group.spawn(answer);
    const auto in_order = group.spawn(sensitive_answer);
    const int first = co_await plain.join();
    const int second = co_await in_order.join();
    co_return (first + second) / 2;
  };
  const int got = co_await bothworlds::with_task_group(body);
  co_return got;
}

/// A call waits for the tasks that it has made.
awaitable<int> with_a_task_of_its_own() {
  const auto task = co_await bothworlds::create_task(nest(1));
  co_return 42;
}

awaitable<int> gathered() {
  const auto both = co_await bothworlds::gather(nest(1), sensitive());
  co_return (std::get<0>(both) + std::get<1>(both)) / 2;
}

awaitable<int> within_a_timeout() {
  const int got = co_await bothworlds::with_timeout(std::chrono::hours(1), nest(1));
  co_return got;
}

awaitable<int> bound() {
  auto make = [held = tracked()] { return 21; };
  bothworlds::thread_bound<int> object(make);
  auto add = [held = tracked()](int& value) { return value += 21; };
  const int got = co_await object.call(add);
  co_await object.close();
  co_return got;
}

awaitable<int> streamed() {
  auto numbers = [left = 3, held = tracked()]() mutable -> std::optional<int> {
    if (left == 0) return std::nullopt;
    return 7 * left--;
  };
  auto stream = bothworlds::to_async_stream(std::move(numbers), {.read_ahead = 2});
  int sum = 0;
  for (;;) {
    const std::optional<int> item = co_await stream.next();
    if (!item) co_return sum;
    sum += *item;
  }
}

/// By way of a channel with room for one, from a blocking callable to the coroutine.
awaitable<int> through_a_channel() {
  auto executor = co_await asio::this_coro::executor;
  auto pipe = std::make_shared<bothworlds::channel<int>>(1);
  struct on_exit {
    std::shared_ptr<bothworlds::channel<int>> closed;
    ~on_exit() { closed->close(); }
  };
  const on_exit whatever_happens{pipe};
  const child_task sender(executor, [pipe]() -> awaitable<void> {
    const on_exit at_the_end{pipe};
    auto send = [pipe, held = tracked()] {
      for (int i = 0; i < 3; ++i) pipe->send_blocking(14);
    };
    auto call = sync_to_async(send);
    co_await call();
  });
  int sum = 0;
  for (;;) {
    const std::optional<int> item = co_await pipe->receive();
    if (!item) break;
    sum += *item;
  }
  co_await sender.join();
  co_return sum;
}

int on_a_portal() {
  bothworlds::blocking_portal portal;
  auto started = portal.start([held = tracked()] { return nest(1); });
  const int first = portal.call(sensitive);
  return (first + started.get()) / 2;
}

awaitable<int> on_an_executor() {
  asio::thread_pool pool(1);
  const asio::any_io_executor executor = pool.get_executor();
  auto callable = [held = tracked()] { return async_to_sync(answer)(); };
  auto call = sync_to_async(callable, {.executor = &executor});
  const int got = co_await call();
  co_return got;
}

template <class F>
int under_async_root(F coroutine_fn) {
  int got = 0;
  std::exception_ptr failure;
  asio::io_context loop(1);
  asio::co_spawn(
      loop, [&]() -> awaitable<void> { got = co_await coroutine_fn(); },
      [&](std::exception_ptr why) { failure = std::move(why); });
  loop.run();
  if (failure) std::rethrow_exception(failure);
  return got;
}

struct scenario {
  const char* name;
  int (*run)();
};

const scenario scenarios[] = {
    {"s2a", [] { return under_async_root([] { return nest(0); }); }},
    {"a2s",
     [] {
       return async_to_sync([held = tracked()]() -> awaitable<int> {
         co_await yield_to_loop();
         co_return 42;
       })();
     }},
    {"nested, sync root", [] { return async_to_sync(nest)(3); }},
    {"nested, foreign io_context", [] { return under_async_root([] { return nest(3); }); }},
    {"thread-sensitive, sync root", [] { return async_to_sync(sensitive)(); }},
    {"thread-sensitive, process lane", [] { return under_async_root(sensitive); }},
    {"thread-sensitive, context", [] { return under_async_root(in_context); }},
    {"force_new_loop and timeout",
     [] {
       return async_to_sync(nest, {.force_new_loop = true, .timeout = std::chrono::hours(1)})(1);
     }},
    {"pool creation",
     [] {
       bothworlds::worker_pool pool;
       auto callable = [held = tracked()] { return 42; };
       auto call = sync_to_async(callable, {.pool = &pool});
       return under_async_root([&]() -> awaitable<int> { return call(); });
     }},
    {"limiter", [] { return under_async_root(limited); }},
    {"task group, sync root", [] { return async_to_sync(grouped)(); }},
    {"task group, foreign io_context", [] { return under_async_root(grouped); }},
    {"task of the call", [] { return async_to_sync(with_a_task_of_its_own)(); }},
    {"gather, sync root", [] { return async_to_sync(gathered)(); }},
    {"gather, foreign io_context", [] { return under_async_root(gathered); }},
    {"timeout, foreign io_context", [] { return under_async_root(within_a_timeout); }},
    {"thread_bound", [] { return under_async_root(bound); }},
    {"stream", [] { return async_to_sync(streamed)(); }},
    {"channel", [] { return under_async_root(through_a_channel); }},
    {"portal", on_a_portal},
    {"executor", [] { return under_async_root(on_an_executor); }},
    {"cancelled", [] { return under_async_root([] { return cancelled(cancel_policy::wait); }); }},
    {"abandoned",
     [] { return under_async_root([] { return cancelled(cancel_policy::abandon); }); }},
    {"interrupted",
     [] { return under_async_root([] { return cancelled(cancel_policy::interrupt); }); }},
};

/// The root coroutine's loop is left after its k-th handler. `destroyed`: and goes at once; else it
/// is only stopped, its callables end, and then it goes.
int leave_loop(int k, bool destroyed, bool& ended_by_itself) {
  int got = 0;
  {
    asio::io_context loop(1);
    asio::co_spawn(
        loop, []() -> awaitable<int> { co_return co_await nest(2) + co_await sensitive() - 42; },
        [&](std::exception_ptr failure, int result) {
          if (!failure) got = result;
          ended_by_itself = true;
        });
    for (int handler = 0; handler < k && !ended_by_itself; ++handler) loop.run_one();
    if (!destroyed && !ended_by_itself) {
      loop.stop();
      comes_true([] { return bothworlds::default_worker_pool().stats().busy == 0; });
    }
  }
  return ended_by_itself ? got : 42;
}

// --- one k ---------------------------------------------------------------------------------------

enum verdict : int {
  fine = 0,
  untouched = 1,
  wrong_result = 2,
  wrong_exception = 3,
  next_call_fails = 4,
  left_behind = 5
};

const char* text_of(int code) {
  switch (code) {
    case wrong_result: return "a wrong result";
    case wrong_exception: return "an exception that is neither std::bad_alloc nor a system_error";
    case next_call_fails: return "the next call did not work";
    case left_behind: return "something was left behind";
    case -SIGALRM: return "hung";
    default: return "ended the process";
  }
}

int run_with(fault& injected, fault::lasts how, const scenario& what, int k) {
  // What is looked up once in a process is not what this is about.
  void* frames[1];
  ::backtrace(frames, 1);
  int code = fine;
  injected.arm(k, how);
  try {
    if (what.run() != 42) code = wrong_result;
  } catch (const std::bad_alloc&) {
  } catch (const boost::system::system_error&) {
  } catch (...) {
    code = wrong_exception;
  }
  const bool happened = injected.disarm();
  if (code != fine) return code;
  try {
    if (what.run() != 42) return next_call_fails;
  } catch (...) {
    return next_call_fails;
  }
  if (!comes_true([] { return tracked::alive == 0; }, std::chrono::seconds(5))) return left_behind;
  return happened ? fine : untouched;
}

int leave_after(bool destroyed, int k) {
  bool ended_by_itself = false;
  if (leave_loop(k, destroyed, ended_by_itself) != 42) return wrong_result;
  if (async_to_sync(nest)(2) != 42 || under_async_root(sensitive) != 42) return next_call_fails;
  if (!comes_true([] { return tracked::alive == 0; }, std::chrono::seconds(5))) return left_behind;
  return ended_by_itself ? untouched : fine;
}

struct experiment {
  std::string name;
  std::function<int(int)> run;  // what became of this k
};

std::vector<experiment> all_experiments() {
  std::vector<experiment> all;
  for (const scenario& what : scenarios) {
    const auto add = [&](const char* kind, fault& injected, fault::lasts how) {
      all.push_back({std::string(kind) + "/" + what.name,
                     [&what, &injected, how](int k) { return run_with(injected, how, what, k); }});
    };
    add("allocation", allocation, fault::lasts::once);
    add("thread", thread_start, fault::lasts::once);
    add("threads from there on", thread_start, fault::lasts::on);
  }
  all.push_back({"loop/stopped", [](int k) { return leave_after(false, k); }});
  all.push_back({"loop/destroyed", [](int k) { return leave_after(true, k); }});
  return all;
}

/// Only a sanitizer knows.
bool leaks() {
#if defined(TEST_UNDER_ASAN)
  return __lsan_do_recoverable_leak_check() != 0;
#else
  return false;
#endif
}

int in_child(const experiment& what, int k) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(60);
    int code = what.run(k);
    if (code <= untouched && leaks()) code = left_behind;
    ::_exit(code);
  }
  return exit_code_of(child);
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<experiment> all = all_experiments();
  if (argc == 3) {
    allocation.tells = thread_start.tells = true;
    std::set_terminate([] {
      fault::tell();
      std::abort();
    });
    for (const experiment& one : all)
      if (one.name == argv[1]) {
        int code = one.run(std::atoi(argv[2]));
        if (code <= untouched && leaks()) code = left_behind;
        std::printf("%s\n", code <= untouched ? "fine" : text_of(code));
        std::fflush(stdout);
        ::_exit(code);
      }
  }
  int passed = 0, failed = 0;
  for (const experiment& one : all) {
    // How many there are differs a little with how the threads meet.
    constexpr int sure = 4;
    int complaints = 0, times = 0, in_vain = 0;
    for (int k = 1; in_vain < sure; ++k) {
      const int code = in_child(one, k);
      if (code == untouched) {
        ++in_vain;
        continue;
      }
      in_vain = 0;
      ++times;
      if (code == fine) continue;
      std::printf("FAILED: %s, k = %d: %s (%d)\n", one.name.c_str(), k, text_of(code), code);
      std::fflush(stdout);
      if (++complaints == 5) break;
    }
    std::printf("%s: %d times\n", one.name.c_str(), times);
    std::fflush(stdout);
    ++(complaints != 0 ? failed : passed);
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed != 0;
}
