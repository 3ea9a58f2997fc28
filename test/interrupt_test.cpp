// SPDX-License-Identifier: BSL-1.0
//
// cancel_policy::interrupt: how running code is asked to end, and that nobody else is.

#include "support/call_tools.hpp"
#include "support/kernel_thread_id.hpp"
#include "support/loop_tools.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/sync_to_async.hpp>
#include <bothworlds/worker_pool.hpp>

#include <boost/thread/thread.hpp>
#include <doctest/doctest.h>

#include <functional>

#include <unistd.h>

using namespace bothworlds::testing;
using bothworlds::async_to_sync;
using bothworlds::cancel_policy;
using bothworlds::sync_to_async;
using bothworlds::worker_pool;
using bothworlds::worker_pool_options;

TEST_CASE(
    "interrupt: a callable in a Boost.Thread interruption point is interrupted, and the call is "
    "aborted") {
  run_async_root([]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    gate running;
    bool unwound = false;
    auto call = sync_to_async(
        [&] {
          struct on_exit {
            bool& flag;
            ~on_exit() { flag = true; }
          } guard{unwound};
          boost::mutex mutex;
          boost::condition_variable never;
          boost::unique_lock<boost::mutex> lock(mutex);
          running.open();
          for (;;) never.wait(lock);
        },
        {.on_cancel = cancel_policy::interrupt});
    child_task task(executor, [&] { return call(); });
    co_await yield_to_loop();
    running.wait();
    task.cancel();
    const bool cancelled = co_await ends_cancelled(task);
    CHECK(cancelled);
    CHECK(unwound);
  });
}

TEST_CASE("interrupt: a callable that swallows the interruption delivers its result") {
  run_async_root([]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    gate running;
    auto call = sync_to_async(
        [&] {
          running.open();
          try {
            for (;;) {
              boost::this_thread::interruption_point();
              boost::this_thread::yield();
            }
          } catch (const boost::thread_interrupted&) {
          }
          return 42;
        },
        {.on_cancel = cancel_policy::interrupt});
    int got = 0;
    child_task task(executor, [&]() -> awaitable<void> {
      const int result = co_await call();
      got = result;
    });
    co_await yield_to_loop();
    running.wait();
    task.cancel();
    co_await task.join();
    CHECK(got == 42);
  });
}

TEST_CASE("signal_proof_call: a callable stuck in a system call is ended through its interruptor") {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    const long loop_id = kernel_thread_id();
    gate running;
    std::atomic<int> interruptions{0};
    std::atomic<long> worker{0}, interrupted_from{0};
    const std::function<void()> interruptor = [&] {
      ++interruptions;
      interrupted_from = kernel_thread_id();
      [[maybe_unused]] const auto written = ::write(ends[1], "x", 1);
    };
    auto call = sync_to_async(
        [&] {
          worker = kernel_thread_id();
          running.open();
          char byte = 0;
          while (::read(ends[0], &byte, 1) < 0) {
          }
          return byte;
        },
        {.on_cancel = cancel_policy::interrupt, .interruptor = &interruptor});
    char got = 0;
    child_task task(executor, [&]() -> awaitable<void> {
      const char byte = co_await call();
      got = byte;
    });
    co_await yield_to_loop();
    running.wait();
    task.cancel();
    task.cancel();
    co_await task.join();
    CHECK(got == 'x');
    CHECK(interruptions == 1);
    CHECK(interrupted_from != worker);
    CHECK(interrupted_from == loop_id);
  });
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_CASE("signal_proof_call: a call that cannot be interrupted is listed") {
  worker_pool pool;
  gate running, release;
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    auto call = sync_to_async(
        [&] {
          running.open();
          release.wait();
        },
        {.pool = &pool, .on_cancel = cancel_policy::interrupt, .name = "deaf"});
    child_task task(executor, [&] { return call(); });
    co_await yield_to_loop();
    running.wait();
    task.cancel();
    const auto left = pool.shutdown(std::chrono::milliseconds(0));
    REQUIRE(left.size() == 1);
    CHECK(left[0].name == "deaf");
    release.open();
    co_await task.join();
  });
}

TEST_CASE("late_interrupt: an interruption never reaches the next job of the same worker") {
  worker_pool pool(worker_pool_options{.soft_limit = 1, .hard_limit = 1});
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    int leaked = 0;
    for (int i = 0; i < 400; ++i) {
      gate running;
      std::atomic<bool> go{false};
      auto victim = sync_to_async(
          [&] {
            running.open();
            // Returns at about the time of the cancellation, without passing an interruption point.
            while (!go) std::this_thread::yield();
          },
          {.pool = &pool, .on_cancel = cancel_policy::interrupt});
      auto next = sync_to_async(
          [&] {
            try {
              boost::this_thread::interruption_point();
            } catch (const boost::thread_interrupted&) {
              return true;
            }
            return boost::this_thread::interruption_requested();
          },
          {.pool = &pool});
      child_task task(executor, [&] { return victim(); });
      co_await yield_to_loop();
      running.wait();
      if (i % 2) {
        go = true;
        task.cancel();
      } else {
        task.cancel();
        go = true;
      }
      co_await ends_cancelled(task);
      const bool reached = co_await next();
      leaked += reached;
    }
    CHECK(leaked == 0);
  });
}

TEST_CASE("late_interrupt: an interruption of a nested call's waiter is not left on its thread") {
  worker_pool pool(worker_pool_options{.soft_limit = 1, .hard_limit = 1});
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    for (int i = 0; i < 50; ++i) {
      loop_event inside(executor);
      auto inner = [&]() -> awaitable<void> {
        inside.set();
        co_await wait_for_ever();
      };
      auto blocks = sync_to_async([&] { async_to_sync(std::ref(inner))(); },
                                  {.pool = &pool, .on_cancel = cancel_policy::interrupt});
      child_task task(executor, [&] { return blocks(); });
      co_await inside.wait();
      task.cancel();
      const bool cancelled = co_await ends_cancelled(task);
      CHECK(cancelled);
      auto next = sync_to_async([] { return boost::this_thread::interruption_requested(); },
                                {.pool = &pool});
      const bool reached = co_await next();
      CHECK_FALSE(reached);
    }
  });
}

TEST_CASE("interrupt: a callable below one that is to be interrupted runs on another worker") {
  worker_pool pool(worker_pool_options{.soft_limit = 4});
  worker_pool other_pool(worker_pool_options{.soft_limit = 1});
  long thread = 0, nested_thread = 0;
  auto nested = sync_to_async(kernel_thread_id, {.pool = &pool});
  auto hop = sync_to_async([] {}, {.pool = &other_pool});
  auto inside = [&]() -> awaitable<void> {
    while (pool.stats().blocked_in_bridge == 0) co_await yield_to_loop();
    co_await hop();
    nested_thread = co_await nested();
  };
  auto callable = sync_to_async(
      [&] {
        thread = kernel_thread_id();
        async_to_sync(std::ref(inside))();
      },
      {.pool = &pool, .on_cancel = cancel_policy::interrupt});
  async_to_sync([&]() -> awaitable<void> { co_await callable(); })();
  CHECK(nested_thread != thread);
}
