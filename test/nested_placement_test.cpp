// SPDX-License-Identifier: BSL-1.0
//
// Where a nested callable runs: on the thread that could only wait for it, if that is as good as a
// worker or no worker is free, and on no thread that something else may depend on.

#include "support/call_tools.hpp"
#include "support/kernel_thread_id.hpp"
#include "support/loop_tools.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/blocking_portal.hpp>
#include <bothworlds/sync_to_async.hpp>
#include <bothworlds/task.hpp>
#include <bothworlds/worker_pool.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

using namespace bothworlds::testing;
using bothworlds::async_to_sync;
using bothworlds::cancel_policy;
using bothworlds::sync_options;
using bothworlds::sync_to_async;
using bothworlds::worker_pool;
using bothworlds::worker_pool_options;

namespace {

/// A callable on a worker of a pool that blocks in a coroutine, `inside`, which is begun once the
/// worker sleeps.
class blocked_worker {
public:
  explicit blocked_worker(worker_pool_options options = {.soft_limit = 1})
      : pool(std::move(options)) {}

  template <class Inside>
  void run(Inside inside) {
    auto hop = sync_to_async([] {}, {.pool = &other_pool});
    auto coroutine = [&]() -> awaitable<void> {
      while (pool.stats().blocked_in_bridge == 0) co_await yield_to_loop();
      // Asio counts an operation as under way until the step that it has resumed is over: that would
      // look like something else that the coroutine waits for.
      co_await hop();
      co_await inside();
    };
    auto callable = [&] {
      thread = kernel_thread_id();
      on_top_of([&] { async_to_sync(std::ref(coroutine))(); });
    };
    auto root = [&]() -> awaitable<void> {
      auto call = sync_to_async(std::ref(callable), {.pool = &pool});
      co_await call();
    };
    async_to_sync(std::ref(root))();
  }

  /// The thread of a nested callable that waits for nothing, on this pool.
  long thread_of_nested_call(worker_pool& on) {
    long nested = 0;
    run([&]() -> awaitable<void> {
      auto call = sync_to_async(kernel_thread_id, {.pool = &on});
      nested = co_await call();
    });
    return nested;
  }

  worker_pool pool;
  worker_pool other_pool{worker_pool_options{.soft_limit = 1}};
  long thread = 0;
  // What the callable does around the blocking call.
  std::function<void(const std::function<void()>&)> on_top_of = [](const auto& block) { block(); };
};

// More than any thread before has had: glibc gives its stack to the next one.
constexpr std::size_t stack_size = 16 << 20;

/// Calls `f` with less than half of such a stack left.
[[gnu::noinline]] void deep_down_a_stack(const std::function<void()>& f) {
  volatile char used[stack_size / 8 * 5];
  used[0] = 1;
  used[sizeof used - 1] = 1;
  f();
  CHECK(used[0] == 1);
}

}  // namespace

TEST_CASE(
    "where no worker is free, what a coroutine alone waits for runs on the thread that is blocked "
    "for it") {
  blocked_worker worker;
  const long nested = worker.thread_of_nested_call(worker.pool);
  CHECK(nested == worker.thread);
  CHECK(worker.pool.stats().threads == 1);
  CHECK(worker.pool.stats().compensations == 0);
}

TEST_CASE(
    "a nested callable runs on the worker that is blocked for it, also where others are free") {
  blocked_worker worker({.soft_limit = 4});
  const long nested = worker.thread_of_nested_call(worker.pool);
  CHECK(nested == worker.thread);
  CHECK(worker.pool.stats().threads == 1);
}

TEST_CASE("however soon a coroutine offloads something, it runs on the worker that waits for it") {
  // Each level is begun on the loop's thread while the worker is on its way to wait for it.
  constexpr int depth = 50, rounds = 40;
  worker_pool pool(worker_pool_options{.soft_limit = 2});
  std::vector<long> threads;
  std::function<void(int)> level = [&](int left) {
    threads.push_back(kernel_thread_id());
    if (left == 0) return;
    async_to_sync([&]() -> awaitable<void> {
      auto below = sync_to_async(std::ref(level), {.pool = &pool});
      co_await below(left - 1);
    })();
  };
  for (int round = 0; round < rounds; ++round) {
    threads.clear();
    level(depth);
    REQUIRE(threads.size() == depth + 1);
    // The first one is this thread, whose call a worker has taken.
    CHECK(std::count(threads.begin() + 1, threads.end(), threads[1]) == depth);
  }
}

TEST_CASE("what runs on top of a callable that is blocked is counted, and listed beside it") {
  blocked_worker worker;
  std::vector<std::string> names;
  worker.run([&]() -> awaitable<void> {
    auto call = sync_to_async(
        [&] {
          for (const auto& each : worker.pool.shutdown(std::chrono::milliseconds(0)))
            names.push_back(each.name);
        },
        {.pool = &worker.pool, .name = "on top"});
    co_await call();
  });
  CHECK(std::count(names.begin(), names.end(), "on top") == 1);
  CHECK(names.size() == 2);
  // The outer one's own thread counts it after it has returned.
  CHECK(comes_true([&] { return worker.pool.stats().completed == 2; }));
}

TEST_CASE(
    "a nested callable finds half of a stack, or runs on another worker, if there is a free one") {
  blocked_worker worker({.soft_limit = 4, .stack_size = stack_size});
  worker.on_top_of = deep_down_a_stack;
  const long nested = worker.thread_of_nested_call(worker.pool);
  CHECK(nested != worker.thread);
  CHECK(worker.pool.stats().threads == 2);
}

TEST_CASE("a nested callable of a pool that has a free worker runs on no thread of another pool") {
  blocked_worker worker;
  worker_pool idle;
  const long nested = worker.thread_of_nested_call(idle);
  CHECK(nested != worker.thread);
}

TEST_CASE(
    "a nested callable of a pool that has no free worker runs on the thread that is blocked for "
    "it") {
  gate occupied, over;  // outlive the pool, whose thread still looks at them
  blocked_worker worker;
  worker_pool busy(worker_pool_options{.soft_limit = 1});
  asio::post(busy.get_executor(), [&] {
    occupied.open();
    over.wait();
  });
  occupied.wait();
  const long nested = worker.thread_of_nested_call(busy);
  over.open();
  CHECK(nested == worker.thread);
}

TEST_CASE("a nested callable that throws, on the thread that is blocked for it") {
  blocked_worker worker;
  long nested = 0;
  worker.run([&]() -> awaitable<void> {
    auto call = sync_to_async(
        [&] {
          nested = kernel_thread_id();
          throw std::runtime_error("nested");
        },
        {.pool = &worker.pool});
    CHECK_THROWS_WITH(co_await call(), "nested");
  });
  CHECK(nested == worker.thread);
}

TEST_CASE(
    "a nested callable of a task that outlives the call does not hold the thread of that call") {
  worker_pool pool(worker_pool_options{.soft_limit = 1});
  gate returned;
  std::optional<child_task> late;
  auto wait_until_it_has_returned = sync_to_async([&] { returned.wait(); }, {.pool = &pool});
  auto coroutine = [&]() -> awaitable<void> {
    while (pool.stats().blocked_in_bridge == 0) co_await yield_to_loop();
    late.emplace(co_await asio::this_coro::executor, [&] { return wait_until_it_has_returned(); });
    co_await yield_to_loop();
  };
  auto callable = [&] {
    async_to_sync(std::ref(coroutine))();
    returned.open();
  };
  auto root = [&]() -> awaitable<void> {
    auto call = sync_to_async(std::ref(callable), {.pool = &pool});
    co_await call();
    co_await late->join();
  };
  async_to_sync(std::ref(root))();
  CHECK(pool.stats().compensations >= 1);
}

TEST_CASE("a task left behind by one call does not run on the thread that waits for the next one") {
  worker_pool pool(worker_pool_options{.soft_limit = 1});
  gate second_has_returned;
  std::optional<child_task> late;
  bool second_begins = false, waits = false;
  worker_pool other_pool(worker_pool_options{.soft_limit = 1});
  auto wait_for_the_second = sync_to_async([&] { second_has_returned.wait(); }, {.pool = &pool});
  auto hop = sync_to_async([] {}, {.pool = &other_pool});
  // One function, so that both calls are of one size and the second may have the address of the first.
  auto coroutine = [&](bool first) -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    if (first) {
      late.emplace(executor, [&]() -> awaitable<void> {
        while (!second_begins) co_await yield_to_loop();
        while (pool.stats().blocked_in_bridge == 0) co_await yield_to_loop();
        co_await hop();
        waits = true;
        co_await wait_for_the_second();
      });
      co_return;
    }
    second_begins = true;
    while (!waits) co_await yield_to_loop();
  };
  auto callable = [&] {
    async_to_sync(std::ref(coroutine))(true);
    async_to_sync(std::ref(coroutine))(false);
    second_has_returned.open();
  };
  auto root = [&]() -> awaitable<void> {
    auto call = sync_to_async(std::ref(callable), {.pool = &pool});
    co_await call();
    co_await late->join();
  };
  async_to_sync(std::ref(root))();
}

// What the root's thread may take up when its loop is idle must not be out of reach once it has
// given the loop away for something else.
TEST_CASE("offers to a thread that gives its loop away are still taken by it, further down") {
  worker_pool pool(worker_pool_options{.soft_limit = 1, .hard_limit = 1});
  const long root_thread = kernel_thread_id();
  gate third_runs;
  std::atomic<long> third_thread{0};
  auto wait_for_the_third = [&] { third_runs.wait(); };
  auto nested = [&]() -> awaitable<void> {
    while (!third_runs.is_open()) co_await yield_to_loop();
  };
  auto second = [&] { async_to_sync(std::ref(nested))(); };
  auto third = [&] {
    third_thread = kernel_thread_id();
    third_runs.open();
  };
  auto root = [&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    auto first_call = sync_to_async(std::ref(wait_for_the_third), {.pool = &pool});
    auto second_call = sync_to_async(std::ref(second), {.pool = &pool});
    auto third_call = sync_to_async(std::ref(third), {.pool = &pool});
    child_task a(executor, [&] { return first_call(); });
    child_task b(executor, [&] { return second_call(); });
    child_task c(executor, [&] { return third_call(); });
    co_await a.join();
    co_await b.join();
    co_await c.join();
  };
  async_to_sync(std::ref(root))();
  CHECK(third_thread == root_thread);
}

TEST_CASE("a nested callable that may be abandoned does not hold the thread that waits for it") {
  blocked_worker worker;
  long nested = 0;
  worker.run([&]() -> awaitable<void> {
    auto call = sync_to_async(kernel_thread_id,
                              {.pool = &worker.pool, .on_cancel = cancel_policy::abandon});
    nested = co_await call();
  });
  CHECK(nested != worker.thread);
}

TEST_CASE("a nested callable does not hold the sync thread, for which others may have work") {
  worker_pool pool(worker_pool_options{.soft_limit = 1}), other_pool;
  bothworlds::blocking_portal portal;
  const long this_thread = kernel_thread_id();

  // The one worker of the pool is blocked.
  gate over;
  auto wait_until_it_is_over = [&]() -> awaitable<void> {
    while (!over.is_open()) co_await yield_to_loop();
  };
  auto block = [&] { async_to_sync(std::ref(wait_until_it_is_over))(); };
  auto occupied = portal.start([&]() -> awaitable<void> {
    auto call = sync_to_async(std::ref(block), {.pool = &pool});
    co_await call();
  });

  // This thread is the sync thread of a call whose coroutine waits for a callable, and the callable
  // for a thread-sensitive call of a task.
  gate served;
  std::atomic<long> callable_thread{0}, served_on{0};
  auto serve = [&]() -> awaitable<void> {
    while (callable_thread == 0) co_await yield_to_loop();
    served_on = co_await sensitive_thread();
    served.open();
  };
  portal.call([&]() -> awaitable<void> {
    while (pool.stats().blocked_in_bridge == 0) co_await yield_to_loop();
    auto task = co_await bothworlds::create_task(serve());
    auto hop = sync_to_async([] {}, {.pool = &other_pool});
    co_await hop();
    auto call = sync_to_async(
        [&] {
          callable_thread = kernel_thread_id();
          served.wait();
        },
        {.pool = &pool});
    co_await call();
    co_await task.join();
  });
  CHECK(callable_thread != this_thread);
  CHECK(served_on == this_thread);
  over.open();
  occupied.get();
}
