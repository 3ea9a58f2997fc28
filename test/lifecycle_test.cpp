// SPDX-License-Identifier: BSL-1.0
//
// Beginnings and ends: loops that stop or die under their callers, threads that come and go.

#include "support/call_tools.hpp"
#include "support/kernel_thread_id.hpp"
#include "support/loop_tools.hpp"
#include "support/process.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/error.hpp>
#include <bothworlds/sync_to_async.hpp>
#include <bothworlds/thread_sensitive.hpp>
#include <bothworlds/worker_pool.hpp>

#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/prefer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <doctest/doctest.h>

#include <atomic>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <utility>
#include <vector>

using namespace bothworlds::testing;
using bothworlds::async_to_sync;
using bothworlds::errc;
using bothworlds::sync_to_async;
using bothworlds::worker_pool;
using bothworlds::worker_pool_options;

namespace {

/// Calls async_to_sync(wait_for_ever) and gives the code of the library's error that it ends with.
boost::system::error_code code_of_waiting() {
  try {
    async_to_sync(wait_for_ever)();
  } catch (const bothworlds::error& e) {
    return e.report().empty() ? boost::system::error_code() : e.code();
  }
  return {};
}

}  // namespace

TEST_CASE(
    "parent_loop_stopped: a worker that calls back into a loop that has stopped gets "
    "loop_stopped") {
  gate running, go_on;
  std::promise<boost::system::error_code> outcome;
  asio::io_context loop;
  auto on_worker = sync_to_async([&] {
    running.open();
    go_on.wait();
    outcome.set_value(code_of_waiting());
  });
  asio::co_spawn(loop, [&] { return on_worker(); }, asio::detached);
  std::thread driver([&] { loop.run(); });
  running.wait();
  loop.stop();
  driver.join();
  go_on.open();
  CHECK(outcome.get_future().get() == errc::loop_stopped);
}

TEST_CASE(
    "parent_loop_stopped: a worker that is blocked in a call when its loop stops gets "
    "loop_stopped") {
  std::promise<boost::system::error_code> outcome;
  asio::io_context loop;
  auto on_worker = sync_to_async([&] { outcome.set_value(code_of_waiting()); });
  gate blocked;
  asio::co_spawn(
      loop,
      [&]() -> awaitable<void> {
        auto executor = co_await asio::this_coro::executor;
        child_task task(executor, [&] { return on_worker(); });
        const bool in_bridge = co_await comes_true_on_loop(
            [] { return bothworlds::default_worker_pool().stats().blocked_in_bridge == 1; });
        CHECK(in_bridge);
        blocked.open();
        co_await task.join();
      },
      asio::detached);
  std::thread driver([&] { loop.run(); });
  blocked.wait();
  loop.stop();
  driver.join();
  CHECK(outcome.get_future().get() == errc::loop_stopped);
}

TEST_CASE("parent_loop_stopped: a loop that dies fails its waiters with loop_stopped") {
  SUBCASE("blocked when it dies") {
    std::promise<boost::system::error_code> outcome;
    auto loop = std::make_unique<asio::io_context>();
    auto on_worker = sync_to_async([&] { outcome.set_value(code_of_waiting()); });
    bool inner_frame_destroyed = false;
    struct on_exit {
      bool& flag;
      ~on_exit() { flag = true; }
    };
    asio::co_spawn(
        *loop,
        [&]() -> awaitable<void> {
          on_exit guard{inner_frame_destroyed};
          co_await on_worker();
        },
        asio::detached);
    asio::co_spawn(
        *loop,
        [&]() -> awaitable<void> {
          const bool in_bridge = co_await comes_true_on_loop(
              [] { return bothworlds::default_worker_pool().stats().blocked_in_bridge == 1; });
          CHECK(in_bridge);
          loop->stop();
        },
        asio::detached);
    loop->run();
    loop.reset();
    CHECK(outcome.get_future().get() == errc::loop_stopped);
    CHECK(inner_frame_destroyed);
  }
  SUBCASE("gone before the call") {
    gate running, go_on;
    std::promise<boost::system::error_code> outcome;
    auto loop = std::make_unique<asio::io_context>();
    auto on_worker = sync_to_async([&] {
      running.open();
      go_on.wait();
      outcome.set_value(code_of_waiting());
    });
    asio::co_spawn(*loop, [&] { return on_worker(); }, asio::detached);
    std::thread driver([&] { loop->run(); });
    running.wait();
    loop->stop();
    driver.join();
    loop.reset();
    go_on.open();
    CHECK(outcome.get_future().get() == errc::loop_stopped);
  }
}

TEST_CASE(
    "parent_loop_stopped: a thread-sensitive call in a context ends too, and its lane serves "
    "others") {
  std::promise<boost::system::error_code> outcome;
  gate running;
  auto loop = std::make_unique<asio::io_context>();
  auto on_lane = sync_to_async(
      [&] {
        running.open();
        outcome.set_value(code_of_waiting());
      },
      {.thread_sensitive = true});
  asio::co_spawn(*loop, [&] { return on_lane(); }, asio::detached);
  std::thread driver([&] { loop->run(); });
  running.wait();
  loop->stop();
  driver.join();
  loop.reset();
  CHECK(outcome.get_future().get() == errc::loop_stopped);
  run_async_root([&]() -> awaitable<void> {
    const int got = co_await sensitive_answer();
    CHECK(got == 42);
  });
}

TEST_CASE(
    "a loop that dies while a callable runs: the callable ends in peace, its result is destroyed") {
  static std::atomic<int> living{0};
  struct tracked {
    tracked() { ++living; }
    tracked(tracked&&) noexcept { ++living; }
    ~tracked() { --living; }
  };
  for (bool stop_first : {false, true}) {
    gate running, release, ended;
    auto loop = std::make_unique<asio::io_context>();
    auto call = sync_to_async([&] {
      running.open();
      release.wait();
      ended.open();
      return tracked();
    });
    asio::co_spawn(*loop, [&]() -> awaitable<void> { co_await call(); }, asio::detached);
    std::thread driver([&] {
      if (stop_first)
        loop->run();
      else
        loop->run_one();
    });
    running.wait();
    loop->stop();
    driver.join();
    loop.reset();
    release.open();
    ended.wait();
    CHECK(comes_true([] { return living == 0; }));
    CHECK(comes_true([] { return bothworlds::default_worker_pool().stats().busy == 0; }));
  }
}

TEST_CASE("a loop may be destroyed as soon as its last call has come back") {
  // The worker may still be on its way out of the completion; nothing there may need the loop any
  // more.
  for (int round = 0; round < 2000; ++round) {
    asio::io_context loop;
    auto strand = asio::make_strand(loop);
    int got = 0;
    asio::co_spawn(
        strand,
        [&]() -> awaitable<void> {
          auto nested = sync_to_async(
              [] { return async_to_sync([]() -> awaitable<int> { co_return 42; })(); });
          got = co_await nested();
        },
        asio::detached);
    loop.run();
    CHECK(got == 42);
  }
}

TEST_CASE("calls that are queued when their loop dies never run") {
  worker_pool pool(worker_pool_options{.soft_limit = 1, .hard_limit = 1});
  gate running, release;
  std::atomic<int> touched{0};
  auto loop = std::make_unique<asio::io_context>();
  auto occupy = sync_to_async(
      [&] {
        running.open();
        release.wait();
      },
      {.pool = &pool});
  auto queued = sync_to_async([&] { ++touched; }, {.pool = &pool});
  asio::co_spawn(*loop, [&] { return occupy(); }, asio::detached);
  for (int i = 0; i < 10; ++i) asio::co_spawn(*loop, [&] { return queued(); }, asio::detached);
  loop->poll();
  running.wait();
  loop.reset();
  release.open();
  CHECK(pool.shutdown(std::chrono::seconds(60)).empty());
  CHECK(touched == 0);
}

TEST_CASE("a parent asio::thread_pool that is stopped fails its waiters") {
  std::promise<boost::system::error_code> outcome;
  gate running, go_on;
  asio::thread_pool threads(1);
  auto on_worker = sync_to_async([&] {
    running.open();
    go_on.wait();
    outcome.set_value(code_of_waiting());
  });
  asio::co_spawn(threads, [&] { return on_worker(); }, asio::detached);
  running.wait();
  threads.stop();
  threads.join();
  go_on.open();
  CHECK(outcome.get_future().get() == errc::loop_stopped);
}

TEST_CASE("a stopped loop that is run again goes on") {
  asio::io_context loop;
  gate running, release;
  int got = 0;
  auto call = sync_to_async([&] {
    running.open();
    release.wait();
    return 42;
  });
  asio::co_spawn(
      loop,
      [&]() -> awaitable<void> {
        const int result = co_await call();
        got = result;
      },
      asio::detached);
  std::thread driver([&] { loop.run(); });
  running.wait();
  loop.stop();
  driver.join();
  release.open();
  CHECK(comes_true([] { return bothworlds::default_worker_pool().stats().busy == 0; }));
  CHECK(got == 0);
  loop.restart();
  loop.run();
  CHECK(got == 42);
}

TEST_CASE("threads that come and go leave no thread and no file behind") {
  auto once = [] {
    const int got = async_to_sync(answer)();
    CHECK(got == 42);
    async_to_sync(sensitive_answer)();
  };
  for (int i = 0; i < 5; ++i) std::thread(once).join();
  const auto files = entries_of("/proc/self/fd").size();
  const int threads = kernel_thread_count();
  for (int i = 0; i < 50; ++i) std::thread(once).join();
  CHECK(comes_true([&] { return kernel_thread_count() <= threads + 1; }));
  CHECK(entries_of("/proc/self/fd").size() <= files + 8);
}

TEST_CASE("a thread that ends while a task of its loop is still waiting ends cleanly") {
  bool destroyed = false;
  std::thread([&] {
    struct on_exit {
      bool* flag;
      ~on_exit() { *flag = true; }
    };
    async_to_sync([&]() -> awaitable<void> {
      auto executor = co_await asio::this_coro::executor;
      asio::co_spawn(
          executor,
          [&destroyed]() -> awaitable<void> {
            on_exit guard{&destroyed};
            co_await wait_for_ever();
          },
          asio::detached);
      co_await yield_to_loop();
    })();
    CHECK_FALSE(destroyed);
  }).join();
  CHECK(destroyed);
}

TEST_CASE(
    "an executor that another thread keeps is that of its call alone, whoever copied it and lets go "
    "of it") {
  std::optional<asio::any_io_executor> kept;
  const auto executor_of_a_call = [] {
    return async_to_sync([]() -> awaitable<asio::any_io_executor> {
      co_return co_await asio::this_coro::executor;
    })();
  };
  SUBCASE("copied by the coroutine") { kept = executor_of_a_call(); }
  SUBCASE("copied on a worker while the coroutine waits, and again outside of the loop") {
    kept = async_to_sync([]() -> awaitable<asio::any_io_executor> {
      const asio::any_io_executor mine = co_await asio::this_coro::executor;
      auto copy = sync_to_async([&] { return asio::any_io_executor(mine); });
      co_return co_await copy();
    })();
  }
  SUBCASE("copied on a thread that never runs a loop, which takes the first one") {
    asio::any_io_executor first = executor_of_a_call();
    std::thread([&] { kept = asio::any_io_executor(std::exchange(first, {})); }).join();
  }
  CHECK(executor_of_a_call() != *kept);
  // The coroutine of the call above lets go of what it has not made.
  async_to_sync([&]() -> awaitable<void> {
    kept.reset();
    co_return;
  })();
  kept = executor_of_a_call();
  CHECK(executor_of_a_call() != *kept);
}

TEST_CASE(
    "an executor may be copied and let go of on any thread, while its loop turns and when it is "
    "gone") {
  std::mutex mutex;
  std::vector<asio::any_io_executor> shared;
  // Takes one and copies it. Gives the copy back, or the first one; every fourth time, none.
  const auto use_one = [&](std::size_t turn) {
    asio::any_io_executor one;
    {
      const std::lock_guard lock(mutex);
      if (shared.empty()) return;
      one = std::move(shared.back());
      shared.pop_back();
    }
    if (turn % 4 == 0) return;
    const asio::any_io_executor copy = asio::prefer(one, asio::execution::blocking.never);
    const std::lock_guard lock(mutex);
    shared.push_back(turn % 2 == 0 ? one : copy);
  };
  std::atomic<bool> enough{false};
  std::vector<std::thread> others;
  for (int number = 0; number < 2; ++number)
    others.emplace_back([&] {
      for (std::size_t turn = 0; !enough; ++turn) use_one(turn);
    });
  for (int loops = 0; loops < 4; ++loops)
    std::thread([&] {
      for (std::size_t call = 0; call < 200; ++call)
        async_to_sync([&]() -> awaitable<void> {
          {
            const asio::any_io_executor mine = co_await asio::this_coro::executor;
            const std::lock_guard lock(mutex);
            shared.push_back(mine);
          }
          use_one(call);
          // Here a worker, or the thread itself while the loop is with a helper.
          auto elsewhere = sync_to_async(use_one, {.thread_sensitive = call % 3 == 0});
          co_await elsewhere(call + 1);
          use_one(call + 2);
        })();
    }).join();
  enough = true;
  for (std::thread& other : others) other.join();
  // Their loops are gone: what is posted there is destroyed, and an executor can still go.
  const std::shared_ptr<int> posted = std::make_shared<int>(0);
  for (const asio::any_io_executor& one : shared) asio::post(one, [posted] {});
  CHECK(posted.use_count() == 1);
}

TEST_CASE(
    "no_thread_per_call: a thousand crossings of every kind need no more threads than ten did") {
  run_async_root([]() -> awaitable<void> {
    auto nested =
        sync_to_async([] { return async_to_sync(answer)() + async_to_sync(sensitive_answer)(); });
    for (int i = 0; i < 10; ++i) co_await nested();
    const int before = kernel_thread_count();
    // A worker that has just answered is not free yet: where the scheduler keeps it from becoming
    // so, the next call gets another one, up to the pool's limit.
    const int limit = 4 + static_cast<int>(std::thread::hardware_concurrency());
    int most = 0;
    for (int i = 0; i < 1000; ++i) {
      const int got = co_await nested();
      CHECK(got == 84);
      most = std::max(most, kernel_thread_count());
    }
    CHECK(most <= before + limit);
  });
}
