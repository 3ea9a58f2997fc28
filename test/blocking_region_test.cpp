// SPDX-License-Identifier: BSL-1.0

#include "support/kernel_thread_id.hpp"
#include "support/loop_tools.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/blocking_region.hpp>
#include <bothworlds/sync_to_async.hpp>
#include <bothworlds/worker_pool.hpp>

#include <doctest/doctest.h>

#include <latch>
#include <vector>

using namespace bothworlds::testing;
using bothworlds::blocking_region;
using bothworlds::sync_to_async;
using bothworlds::worker_pool;
using bothworlds::worker_pool_options;

TEST_CASE("a worker in a region is replaced, so that what it waits for can run") {
  worker_pool pool(worker_pool_options{.soft_limit = 1, .hard_limit = 4});
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    gate waiting, event;
    auto wait = sync_to_async(
        [&] {
          blocking_region region("for the event");
          waiting.open();
          event.wait();
        },
        {.pool = &pool});
    auto set = sync_to_async([&] { event.open(); }, {.pool = &pool});
    child_task waiter(executor, [&] { return wait(); });
    co_await yield_to_loop();
    waiting.wait();
    CHECK(pool.stats().blocked_in_bridge == 1);
    co_await set();
    co_await waiter.join();
    CHECK(pool.stats().compensations >= 1);
    const bool left =
        co_await comes_true_on_loop([&] { return pool.stats().blocked_in_bridge == 0; });
    CHECK(left);
  });
}

TEST_CASE("a region that is entered while calls are queued lets them run") {
  worker_pool pool(worker_pool_options{.soft_limit = 1, .hard_limit = 4});
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    gate running, go_on, event;
    auto wait = sync_to_async(
        [&] {
          running.open();
          go_on.wait();
          blocking_region region;
          event.wait();
        },
        {.pool = &pool});
    auto set = sync_to_async([&] { event.open(); }, {.pool = &pool});
    child_task waiter(executor, [&] { return wait(); });
    co_await yield_to_loop();
    running.wait();
    child_task setter(executor, [&] { return set(); });
    co_await yield_to_loop();
    CHECK(pool.stats().queued == 1);
    go_on.open();
    co_await setter.join();
    co_await waiter.join();
  });
}

TEST_CASE(
    "the pool grows to its hard limit at most, and shrinks to the soft one when it runs out of "
    "work") {
  worker_pool pool(worker_pool_options{.soft_limit = 1, .hard_limit = 3});
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    gate release;
    std::atomic<int> inside{0};
    auto wait = sync_to_async(
        [&] {
          blocking_region region;
          ++inside;
          release.wait();
        },
        {.pool = &pool});
    std::vector<child_task> waiters;
    for (int i = 0; i < 6; ++i) waiters.emplace_back(executor, [&] { return wait(); });
    const bool grown = co_await comes_true_on_loop([&] { return inside == 3; });
    CHECK(grown);
    for (int i = 0; i < 10; ++i) co_await yield_to_loop();
    CHECK(inside == 3);
    CHECK(pool.stats().threads == 3);
    CHECK(pool.stats().queued == 3);
    release.open();
    for (auto& waiter : waiters) co_await waiter.join();
    const bool shrunk = co_await comes_true_on_loop([&] { return pool.stats().threads <= 1; });
    CHECK(shrunk);
  });
}

TEST_CASE("regions nest, and end with their scope, also by an exception") {
  worker_pool pool(worker_pool_options{.soft_limit = 1, .hard_limit = 2});
  run_async_root([&]() -> awaitable<void> {
    auto call = sync_to_async(
        [&] {
          try {
            blocking_region outer("outer");
            blocking_region inner("inner");
            CHECK(pool.stats().blocked_in_bridge == 1);
            throw 1;
          } catch (int) {
          }
          CHECK(pool.stats().blocked_in_bridge == 0);
        },
        {.pool = &pool});
    co_await call();
  });
}

TEST_CASE("on a plain thread a region does nothing") {
  const int before = kernel_thread_count();
  {
    blocking_region region;
    CHECK(kernel_thread_count() == before);
  }
  const int got = bothworlds::async_to_sync([]() -> awaitable<int> { co_return 42; })();
  CHECK(got == 42);
}

TEST_CASE("in a callable a region may stand around a blocking call into async code") {
  run_async_root([]() -> awaitable<void> {
    const long loop_id = kernel_thread_id();
    auto call = sync_to_async([] {
      blocking_region region;
      return bothworlds::async_to_sync([]() -> awaitable<long> {
        co_await yield_to_loop();
        co_return kernel_thread_id();
      })();
    });
    const long ran_on = co_await call();
    CHECK(ran_on == loop_id);
  });
}
