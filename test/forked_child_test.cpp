// SPDX-License-Identifier: BSL-1.0
//
// Code that has forked, and goes on in the child where it came from: a coroutine on a loop of the
// parent's, a callable that returns to a thread which is there no more. Also run in debug mode.

#include "support/call_tools.hpp"
#include "support/captured_stderr.hpp"
#include "support/kernel_thread_id.hpp"
#include "support/loop_tools.hpp"
#include "support/process.hpp"
#include "support/sanitizers.hpp"
#include "support/test_executors.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/blocking_portal.hpp>
#include <bothworlds/blocking_region.hpp>
#include <bothworlds/channel.hpp>
#include <bothworlds/error.hpp>
#include <bothworlds/run.hpp>
#include <bothworlds/spawn.hpp>
#include <bothworlds/stream.hpp>
#include <bothworlds/sync_to_async.hpp>
#include <bothworlds/task.hpp>
#include <bothworlds/thread_bound.hpp>
#include <bothworlds/worker_pool.hpp>

#include <boost/asio/bind_executor.hpp>
#include <doctest/doctest.h>

#include <atomic>
#include <cstdlib>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>

using namespace bothworlds::testing;
using bothworlds::async_to_sync;
using bothworlds::blocking_portal;
using bothworlds::errc;
using bothworlds::sync_to_async;
using bothworlds::worker_pool;

namespace {

/// The exit code of a child in which everything was as it should be.
constexpr int as_expected = 42;

/// In a child: ends it, where `block` does not throw forked_child; and where the thread cannot make
/// new calls afterwards. In the parent: what `block` gives.
template <class F>
int ends_in_child_with_forked_child(F block) {
  const pid_t parent = ::getpid();
  try {
    const int got = block();
    if (::getpid() == parent) return got;
    ::_exit(1);
  } catch (const bothworlds::error& e) {
    if (::getpid() == parent) throw;
    ::_exit(e.code() == errc::forked_child ? async_to_sync(answer)() : 2);
  }
}

/// Forks. In the child it returns 0, which no child's exit code of these cases is; in the parent
/// the child's exit code.
int forked() {
  const pid_t child = fork_for();
  return child == 0 ? 0 : exit_code_of(child);
}

/// The child's next wait of the library's on the parent's loop is refused; what it begins itself
/// works.
awaitable<int> refused_in_child() {
  auto call = sync_to_async([] { return 1; });
  if (const int code = forked(); code != 0) co_return code;
  int code = 1;
  try {
    co_await call();
  } catch (const bothworlds::error& e) {
    std::thread own([&] { code = e.code() == errc::forked_child ? async_to_sync(answer)() : 2; });
    own.join();
  }
  ::_exit(code);
}

/// The child waits for what the library knows nothing of.
awaitable<int> suspended_in_child() {
  const int code = forked();
  co_await yield_to_loop();
  if (code == 0) ::_exit(3);
  co_return code;
}

/// The same, and in the child nothing is left for the loop to do.
awaitable<int> asleep_in_child() {
  asio::steady_timer never(co_await asio::this_coro::executor, std::chrono::hours(1));
  const int code = forked();
  if (code != 0) co_return code;
  co_await never.async_wait(asio::use_awaitable);
  ::_exit(3);
}

/// Returns on a helper's thread, once the loop's owner, a thread that waits in async_to_sync, has
/// asked for the loop.
awaitable<void> move_to_helper(long owner) {
  const heartbeat pulse(co_await asio::this_coro::executor);
  auto outlast = sync_to_async([&] { pulse.block_for_ticks(2); }, thread_sensitive);
  do co_await outlast();
  while (kernel_thread_id() == owner);
  comes_true([=] { return thread_sleeps(owner); });
}

template <class F>
int on_helper(F coroutine_fn) {
  const long owner = kernel_thread_id();
  return async_to_sync([&]() -> awaitable<int> {
    co_await move_to_helper(owner);
    co_return co_await coroutine_fn();
  })();
}

/// Gives EXIT_FAILURE, once the child has said on stderr why it ends, and that it was in `what`.
template <class F>
int ends_with_report(const char* what, F parent) {
  const captured_stderr told;
  const int code = parent();
  const std::string text = told.text();
  CHECK(text.find("a forked child, process ") != std::string::npos);
  CHECK(text.find(what) != std::string::npos);
  CHECK(text.find("  fix  end the child in the code that forks, with _exit() or exec\n") !=
        std::string::npos);
  return code;
}

/// A callable blocks in block(), which opens the gate that it is given, on the thread of its chain;
/// another one forks on top of that, and returns. release() ends the wait in the parent.
template <class Block, class Release>
int forked_on_top_of_wait(Block block, Release release) {
  return ends_in_child_with_forked_child([&] {
    return async_to_sync([&]() -> awaitable<int> {
      const auto executor = co_await asio::this_coro::executor;
      gate waits;
      auto blocks = sync_to_async([&] { block(waits); }, thread_sensitive);
      child_task blocked(executor, [&]() -> awaitable<void> { co_await blocks(); });
      co_await comes_true_on_loop([&] { return waits.is_open(); });
      auto forks = sync_to_async(forked, thread_sensitive);
      const int code = co_await forks();
      release();
      co_await blocked.join();
      co_return code;
    })();
  });
}

/// Whether new calls work, and what one leaves behind goes on in the next: the thread keeps its loop.
bool calls_go_on() {
  bool went_on = false;
  async_to_sync([&]() -> awaitable<void> {
    asio::post(co_await asio::this_coro::executor, [&] { went_on = true; });
  })();
  return async_to_sync(answer)() == 42 && went_on && async_to_sync(sensitive_answer)() == 42;
}

constexpr const char* in_coroutine = "  at   a coroutine that has forked";

/// Ends any other process than that which made it, where it is destroyed or called.
class of_one_process {
public:
  of_one_process() = default;
  of_one_process(const of_one_process&) = delete;
  of_one_process& operator=(const of_one_process&) = delete;
  ~of_one_process() { check(); }
  void check() const {
    if (::getpid() != made_in_) ::_exit(4);
  }

private:
  const pid_t made_in_ = ::getpid();
};

}  // namespace

TEST_CASE(
    "fork_with_warm_pool: forked in a coroutine, the child's next wait on the parent's loop is "
    "refused" SKIPPED_WHERE_MALLOC_IS_NOT_FORK_SAFE) {
  // Right after an await, when a worker may still hold what it resumed the coroutine with.
  const auto warm = []() -> awaitable<int> {
    co_await answer();
    co_await sensitive_answer();
    co_return co_await refused_in_child();
  };
  int code = 0;
  run_async_root([&]() -> awaitable<void> { code = co_await warm(); });
  CHECK(code == as_expected);
  CHECK(async_to_sync(warm)() == as_expected);
  CHECK(async_to_sync(answer)() == 42);
}

TEST_CASE(
    "fork_with_warm_pool: forked in a coroutine on a helper's thread, the child goes on though the "
    "parent wants its loop back" SKIPPED_WHERE_MALLOC_IS_NOT_FORK_SAFE) {
  CHECK(on_helper(refused_in_child) == as_expected);
  CHECK(async_to_sync(answer)() == 42);
}

TEST_CASE(
    "fork_with_warm_pool: a coroutine that waits for something else in the child makes "
    "async_to_sync throw there" SKIPPED_WHERE_MALLOC_IS_NOT_FORK_SAFE) {
  // In its first step.
  CHECK(ends_in_child_with_forked_child([] { return async_to_sync(suspended_in_child)(); }) ==
        as_expected);
  // Later, resumed by the loop's own queue.
  CHECK(ends_in_child_with_forked_child([] {
          return async_to_sync([]() -> awaitable<int> {
            co_await yield_to_loop();
            co_return co_await suspended_in_child();
          })();
        }) == as_expected);
  // The last of those that are run before Asio gets its turn, and those beside it.
  for (const int before : {62, 63, 64, 126, 127, 128})
    CHECK(ends_in_child_with_forked_child([before] {
            return async_to_sync([](int others) -> awaitable<int> {
              const auto executor = co_await asio::this_coro::executor;
              while (others-- != 0) asio::post(executor, [] {});
              co_await yield_to_loop();
              co_return co_await asleep_in_child();
            })(before);
          }) == as_expected);
  // In a handler of Asio's.
  CHECK(ends_in_child_with_forked_child([] {
          return async_to_sync([]() -> awaitable<int> {
            asio::steady_timer soon(co_await asio::this_coro::executor,
                                    std::chrono::milliseconds(5));
            co_await soon.async_wait(asio::use_awaitable);
            co_return co_await suspended_in_child();
          })();
        }) == as_expected);
  CHECK(async_to_sync(answer)() == 42);
}

TEST_CASE(
    "fork_with_warm_pool: in the child nothing else of the parent's loop goes "
    "on" SKIPPED_WHERE_MALLOC_IS_NOT_FORK_SAFE) {
  of_one_process here;
  CHECK(ends_in_child_with_forked_child([&] {
          return async_to_sync([&]() -> awaitable<int> {
            const auto executor = co_await asio::this_coro::executor;
            for (int i = 0; i < 3; ++i) asio::post(executor, [&] { here.check(); });
            co_return co_await suspended_in_child();
          })();
        }) == as_expected);
  // Nor what Asio has ready behind the handler that forks.
  CHECK(ends_in_child_with_forked_child([&] {
          return async_to_sync([&]() -> awaitable<int> {
            const auto executor = co_await asio::this_coro::executor;
            const auto soon = std::chrono::steady_clock::now() + std::chrono::milliseconds(5);
            asio::steady_timer first(executor, soon), second(executor, soon);
            bool second_done = false;
            asio::post(executor, [&] {
              second.async_wait([&](boost::system::error_code) {
                here.check();
                second_done = true;
              });
            });
            co_await first.async_wait(asio::use_awaitable);
            const int code = co_await suspended_in_child();
            while (!second_done) co_await yield_to_loop();
            co_return code;
          })();
        }) == as_expected);
}

TEST_CASE(
    "fork_with_warm_pool: in the child a call that has had tasks ends, and others "
    "begin" SKIPPED_WHERE_MALLOC_IS_NOT_FORK_SAFE) {
  const auto with_a_task = [](bool forks) -> awaitable<int> {
    const auto task = co_await bothworlds::create_task(answer());
    co_await task.join();
    co_return forks ? forked() : 42;
  };
  const int code = async_to_sync(with_a_task)(true);
  if (code == 0) ::_exit(async_to_sync(with_a_task)(false));
  CHECK(code == as_expected);
}

TEST_CASE(
    "fork_with_warm_pool: in the child no handler of a spawned coroutine is "
    "told" SKIPPED_WHERE_MALLOC_IS_NOT_FORK_SAFE) {
  loop_thread other;
  const auto posted = std::make_shared<std::atomic<int>>(0);
  std::promise<void> told;
  const pid_t parent = ::getpid();
  int code = 0;
  const auto root = [&]() -> awaitable<int> {
    auto forks = [&]() -> awaitable<void> {
      code = forked();
      co_return;
    };
    bothworlds::spawn(co_await asio::this_coro::executor, std::ref(forks),
                      asio::bind_executor(counting_executor(other.executor(), posted),
                                          [&](std::exception_ptr) { told.set_value(); }));
    co_await comes_true_on_loop([&] { return code != 0; });
    co_return code;
  };
  CHECK(ends_in_child_with_forked_child([&] {
          try {
            return async_to_sync(root)();
          } catch (...) {
            if (::getpid() != parent && *posted != 0) ::_exit(5);
            throw;
          }
        }) == as_expected);
  told.get_future().get();
}

TEST_CASE(
    "fork_with_warm_pool: in the child no call of the parent's chain runs, and nothing of one is "
    "destroyed" SKIPPED_WHERE_MALLOC_IS_NOT_FORK_SAFE) {
  of_one_process here;
  // The argument of the callable that forks; that of a worker's ends with the child.
  auto fork_with = sync_to_async([](const std::unique_ptr<of_one_process>&) { return forked(); });
  CHECK(ends_with_report("forked_child_test.cpp:", [&] {
          return async_to_sync([&]() -> awaitable<int> {
            auto argument = std::make_unique<of_one_process>();
            co_return co_await fork_with(std::move(argument));
          })();
        }) == EXIT_FAILURE);
  // What is queued for the thread on which the callable forks.
  CHECK(ends_in_child_with_forked_child([&] {
          return async_to_sync([&]() -> awaitable<int> {
            const auto executor = co_await asio::this_coro::executor;
            gate second_waits;
            int code = 0;
            auto first = sync_to_async(
                [&] {
                  second_waits.wait();
                  return forked();
                },
                thread_sensitive);
            auto second = sync_to_async([&] { here.check(); }, thread_sensitive);
            child_task one(executor, [&]() -> awaitable<void> { code = co_await first(); });
            child_task other(executor, [&]() -> awaitable<void> { co_await second(); });
            asio::post(executor, [&] { second_waits.open(); });
            co_await one.join();
            co_await other.join();
            co_return code;
          })();
        }) == as_expected);
  // What other coroutines of the loop hold.
  const pid_t parent = ::getpid();
  auto leaves_another = [&]() -> awaitable<int> {
    const auto executor = co_await asio::this_coro::executor;
    gate released;
    auto other = sync_to_async([&] { released.wait(); });
    child_task holds(executor, [&]() -> awaitable<void> {
      const of_one_process held;
      co_await other();
    });
    co_await yield_to_loop();
    const int code = forked();
    if (code == 0) co_return 0;
    released.open();
    co_await holds.join();
    co_return code;
  };
  const int code = async_to_sync(std::ref(leaves_another), {.force_new_loop = true})();
  if (::getpid() != parent) ::_exit(as_expected);
  CHECK(code == as_expected);
}

TEST_CASE(
    "fork_with_warm_pool: a coroutine that ends in the child gives its result there, on a thread "
    "of the user's" SKIPPED_WHERE_MALLOC_IS_NOT_FORK_SAFE) {
  const pid_t parent = ::getpid();
  const auto ends = []() -> awaitable<int> {
    co_await yield_to_loop();
    co_return forked();
  };
  for (const bool new_loop : {false, true}) {
    const int code = async_to_sync(ends, {.force_new_loop = new_loop})();
    if (::getpid() != parent) ::_exit(code == 0 && calls_go_on() ? as_expected : 1);
    CHECK(code == as_expected);
  }
  CHECK(async_to_sync(answer)() == 42);
}

TEST_CASE(
    "fork_with_warm_pool: a coroutine that ends in the child gives its result there, to a "
    "callable" SKIPPED_WHERE_MALLOC_IS_NOT_FORK_SAFE) {
  constexpr int elsewhere = -1;
  const auto in_callable = [&](bothworlds::async_options options) {
    const pid_t parent = ::getpid();
    const long here = kernel_thread_id();
    const auto ends = [&]() -> awaitable<int> {
      co_await yield_to_loop();
      co_return kernel_thread_id() == here ? forked() : elsewhere;
    };
    const int code = async_to_sync(std::ref(ends), std::move(options))();
    if (::getpid() == parent) return code;
    // No thread has been started there for the parent's loop.
    if (code != 0 || entries_of("/proc/self/task").size() != 1) ::_exit(1);
    ::_exit(async_to_sync(answer)());
  };
  // On a loop of the worker's own.
  auto on_worker = sync_to_async([&] { return in_callable({.force_new_loop = true}); });
  CHECK(async_to_sync(std::ref(on_worker))() == as_expected);
  // On that of this thread, unless a helper was faster.
  auto on_this_thread = sync_to_async([&] { return in_callable({}); }, thread_sensitive);
  int code = elsewhere;
  while (code == elsewhere) code = async_to_sync(std::ref(on_this_thread))();
  CHECK(code == as_expected);
}

TEST_CASE(
    "fork_with_warm_pool: a child that is left with a helper's thread ends, and says "
    "why" SKIPPED_WHERE_MALLOC_IS_NOT_FORK_SAFE) {
  CHECK(ends_with_report(in_coroutine, [] { return on_helper(suspended_in_child); }) ==
        EXIT_FAILURE);
  CHECK(ends_with_report(in_coroutine, [] {
          return on_helper([]() -> awaitable<int> { co_return forked(); });
        }) == EXIT_FAILURE);
  CHECK(async_to_sync(answer)() == 42);
}

TEST_CASE(
    "fork_with_warm_pool: a child whose coroutine ran in a portal ends, and says "
    "why" SKIPPED_WHERE_MALLOC_IS_NOT_FORK_SAFE) {
  blocking_portal portal;
  CHECK(ends_with_report(in_coroutine, [&] { return portal.call(suspended_in_child); }) ==
        EXIT_FAILURE);
  CHECK(ends_with_report(in_coroutine, [&] {
          return portal.start([] { return forked(); }).get();
        }) == EXIT_FAILURE);
  CHECK(portal.call([] { return 1; }) == 1);
}

TEST_CASE(
    "fork_with_warm_pool: a callable that returns or throws in the child ends it, and says why and "
    "where" SKIPPED_WHERE_MALLOC_IS_NOT_FORK_SAFE) {
  const auto throws = [] {
    const int code = forked();
    if (code == 0) throw std::runtime_error("in the child");
    return code;
  };
  worker_pool own_pool;
  bothworlds::thread_bound<int> bound([] { return 0; });
  const auto awaited = [](auto call) {
    return ends_with_report("forked_child_test.cpp:", [&] {
      int code = 0;
      run_async_root([&]() -> awaitable<void> { code = co_await call(); });
      return code;
    });
  };
  CHECK(awaited(sync_to_async(forked)) == EXIT_FAILURE);
  CHECK(awaited(sync_to_async(throws)) == EXIT_FAILURE);
  CHECK(awaited(sync_to_async(forked, {.pool = &own_pool})) == EXIT_FAILURE);
  CHECK(awaited(sync_to_async(forked, thread_sensitive)) == EXIT_FAILURE);
  CHECK(awaited([&] { return bound.call([](int&) { return forked(); }); }) == EXIT_FAILURE);
  // Below a call of its own, which throws there; the callable makes of that what it likes.
  const auto nests = [] {
    try {
      auto inner = sync_to_async(forked, thread_sensitive);
      return async_to_sync(std::ref(inner))();
    } catch (const bothworlds::error&) {
      return 0;
    }
  };
  CHECK(awaited(sync_to_async(nests, thread_sensitive)) == EXIT_FAILURE);
}

TEST_CASE(
    "fork_with_warm_pool: a callable that returns in the child makes the calls throw that block "
    "below it" SKIPPED_WHERE_MALLOC_IS_NOT_FORK_SAFE) {
  auto on_this_thread = sync_to_async(forked, thread_sensitive);
  CHECK(ends_in_child_with_forked_child(
            [&] { return async_to_sync(std::ref(on_this_thread))(); }) == as_expected);
  // Two calls of this thread, one below the other.
  auto nested =
      sync_to_async([&] { return async_to_sync(std::ref(on_this_thread))(); }, thread_sensitive);
  CHECK(ends_in_child_with_forked_child([&] { return async_to_sync(std::ref(nested))(); }) ==
        as_expected);
  CHECK(async_to_sync(answer)() == 42);
}

TEST_CASE(
    "fork_with_warm_pool: a callable that returns in the child makes the wait for a portal's call "
    "throw" SKIPPED_WHERE_MALLOC_IS_NOT_FORK_SAFE) {
  of_one_process here;
  blocking_portal portal;
  gate released;
  const int code = forked_on_top_of_wait(
      [&](gate& waits) {
        auto future = portal.start([&]() -> awaitable<void> {
          while (!released.is_open()) co_await yield_to_loop();
        });
        waits.open();
        future.get();
        here.check();
      },
      [&] { released.open(); });
  CHECK(code == as_expected);
}

TEST_CASE(
    "fork_with_warm_pool: a blocking_region that ends in the child asks nothing of the parent's "
    "pool" SKIPPED_WHERE_MALLOC_IS_NOT_FORK_SAFE) {
  worker_pool pool;
  gate stop;
  // So that the pool's mutex is held at one fork or another.
  std::thread busy([&] {
    while (!stop.is_open()) pool.stats();
  });
  auto fork_inside = sync_to_async(
      [] {
        pid_t child = 0;
        {
          const bothworlds::blocking_region region;
          child = fork_for();
        }
        if (child == 0) ::_exit(as_expected);
        return exit_code_of(child);
      },
      {.pool = &pool});
  int good = 0;
  run_async_root([&]() -> awaitable<void> {
    for (int i = 0; i < 100; ++i) good += co_await fork_inside() == as_expected;
  });
  stop.open();
  busy.join();
  CHECK(good == 100);
}

TEST_CASE(
    "fork_with_warm_pool: a callable that returns in the child, below a call that has ended "
    "meanwhile, leaves that its result" SKIPPED_WHERE_MALLOC_IS_NOT_FORK_SAFE) {
  const pid_t parent = ::getpid();
  gate begun, ended;
  int code = 0;
  auto outlasts = sync_to_async(
      [&] {
        begun.open();
        ended.wait();
        code = forked();
      },
      thread_sensitive);
  const int result = async_to_sync([&]() -> awaitable<int> {
    const auto executor = co_await asio::this_coro::executor;
    asio::co_spawn(executor, [&]() -> awaitable<void> { co_await outlasts(); }, asio::detached);
    // Begun on this thread, so this goes on on a helper's.
    co_await comes_true_on_loop([&] { return begun.is_open(); });
    asio::post(executor, [&] { ended.open(); });
    co_return 42;
  })();
  CHECK(result == 42);
  if (::getpid() != parent) ::_exit(async_to_sync(answer)());
  CHECK(code == as_expected);
}

TEST_CASE(
    "fork_with_warm_pool: a callable that came too late for its call, and returns in the child, is "
    "the last to run there" SKIPPED_WHERE_MALLOC_IS_NOT_FORK_SAFE) {
  const pid_t parent = ::getpid();
  of_one_process here;
  int code = 0;
  auto forks = sync_to_async([&] { code = forked(); }, thread_sensitive);
  auto after_it = sync_to_async([&] { here.check(); }, thread_sensitive);
  // The call ends in the same batch of Asio's in which these are queued for this thread.
  async_to_sync([&]() -> awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    const auto soon = std::chrono::steady_clock::now() + std::chrono::milliseconds(5);
    const auto at_once = [&](auto& call) {
      asio::co_spawn(
          executor,
          [&, soon]() -> awaitable<void> {
            asio::steady_timer timer(executor, soon);
            co_await timer.async_wait(asio::use_awaitable);
            co_await call();
          },
          asio::detached);
    };
    at_once(forks);
    at_once(after_it);
    co_await yield_to_loop();
    asio::steady_timer last(executor, soon + std::chrono::nanoseconds(1));
    while (std::chrono::steady_clock::now() < soon + std::chrono::milliseconds(1)) {
    }
    co_await last.async_wait(asio::use_awaitable);
  })();
  if (::getpid() != parent) ::_exit(calls_go_on() ? as_expected : 1);
  CHECK(code == as_expected);
  async_to_sync(answer)();  // what was left on the loop ends here
}

TEST_CASE(
    "fork_with_warm_pool: the coroutine of a call that throws in the child is not destroyed "
    "there" SKIPPED_WHERE_MALLOC_IS_NOT_FORK_SAFE) {
  CHECK(ends_in_child_with_forked_child([] {
          return async_to_sync([]() -> awaitable<int> {
            const of_one_process held;
            co_return co_await suspended_in_child();
          })();
        }) == as_expected);
  auto forks = sync_to_async(forked, thread_sensitive);
  CHECK(ends_in_child_with_forked_child([&] {
          return async_to_sync([&]() -> awaitable<int> {
            const of_one_process held;
            co_return co_await forks();
          })();
        }) == as_expected);
}

TEST_CASE(
    "fork_with_warm_pool: a callable that returns in the child makes a thread throw that waits for "
    "a channel" SKIPPED_WHERE_MALLOC_IS_NOT_FORK_SAFE) {
  bothworlds::channel<int> items(1);
  const int code = forked_on_top_of_wait(
      [&](gate& waits) {
        waits.open();
        items.receive_blocking();
      },
      [&] { items.close(); });
  CHECK(code == as_expected);
}

TEST_CASE(
    "fork_with_warm_pool: a source of to_async_stream that forks and goes on in the child ends it, "
    "and says why" SKIPPED_WHERE_MALLOC_IS_NOT_FORK_SAFE) {
  for (const bool at_the_end : {false, true}) {
    int code = 0;
    int steps = 0;
    const pid_t parent = ::getpid();
    CHECK(ends_with_report("forked_child_test.cpp:", [&] {
            async_to_sync([&]() -> awaitable<void> {
              auto held = std::make_unique<of_one_process>();
              auto source = [&, held = std::move(held)]() -> std::optional<int> {
                if (::getpid() != parent) ::_exit(4);
                if (++steps == 3) code = forked();
                if (steps == 3 && at_the_end) return {};
                if (steps == 100) return {};
                return steps;
              };
              auto numbers = bothworlds::to_async_stream(std::move(source));
              while (co_await numbers.next()) {
              }
            })();
            return code;
          }) == EXIT_FAILURE);
  }
}

TEST_CASE(
    "fork_with_warm_pool: the future of a parent's portal answers with "
    "forked_child" SKIPPED_WHERE_MALLOC_IS_NOT_FORK_SAFE) {
  blocking_portal portal;
  auto future = portal.start([]() -> awaitable<void> { co_await wait_for_ever(); });
  CHECK(ends_in_child_with_forked_child([&] {
          const int code = forked();
          if (code == 0) {
            future.cancel();
            future.get();
          }
          return code;
        }) == as_expected);
  future.cancel();
  CHECK_THROWS(future.get());
}

TEST_CASE(
    "fork_with_warm_pool: a portal that waits for its end goes, where a callable returns in the "
    "child meanwhile" SKIPPED_WHERE_MALLOC_IS_NOT_FORK_SAFE) {
  gate released;
  const int code = forked_on_top_of_wait(
      [&](gate& waits) {
        blocking_portal portal;
        auto stubborn = portal.start([&]() -> awaitable<void> {
          co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
          waits.open();
          while (!released.is_open()) co_await yield_to_loop();
        });
        waits.wait();
      },
      [&] { released.open(); });
  CHECK(code == as_expected);
}

TEST_CASE(
    "fork_with_warm_pool: a blocking_region that begins in the child does not bring back the "
    "parent's loop" SKIPPED_WHERE_MALLOC_IS_NOT_FORK_SAFE) {
  auto forks = sync_to_async([] {
    return exit_code_of_child([] {
      const bothworlds::blocking_region region;
      return async_to_sync(answer)();
    });
  });
  CHECK(async_to_sync(std::ref(forks))() == as_expected);
}

TEST_CASE(
    "fork_with_warm_pool: a child that returns from run() leaves the parent its "
    "signals" SKIPPED_WHERE_MALLOC_IS_NOT_FORK_SAFE) {
  const pid_t parent = ::getpid();
  int code = 0;
  const auto main = [&]() -> awaitable<int> {
    code = forked();
    if (code == 0) co_return as_expected;
    ::kill(::getpid(), SIGINT);
    co_await wait_for_ever();
    co_return 0;
  };
  int caught = 0;
  try {
    const int result = bothworlds::run(main);
    if (::getpid() != parent) ::_exit(result);
  } catch (const bothworlds::interrupted& e) {
    caught = e.signal();
  }
  CHECK(code == as_expected);
  CHECK(caught == SIGINT);
}
