// SPDX-License-Identifier: BSL-1.0
//
// Where code runs: below which parent a blocking call finds which loop, and where a coroutine goes
// on afterwards.

#include "support/call_tools.hpp"
#include "support/kernel_thread_id.hpp"
#include "support/loop_tools.hpp"
#include "support/test_executors.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/error.hpp>
#include <bothworlds/sync_to_async.hpp>
#include <bothworlds/thread_sensitive.hpp>
#include <bothworlds/worker_pool.hpp>

#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <doctest/doctest.h>

#include <functional>
#include <set>
#include <thread>
#include <vector>

using namespace bothworlds::testing;
using bothworlds::async_to_sync;
using bothworlds::sync_options;
using bothworlds::sync_to_async;
using bothworlds::with_thread_sensitive_context;

namespace {

awaitable<long> thread_of_coroutine() {
  co_await yield_to_loop();
  co_return kernel_thread_id();
}

awaitable<asio::execution_context*> loop_of_coroutine() {
  co_await yield_to_loop();
  auto executor = co_await asio::this_coro::executor;
  co_return &asio::query(executor, asio::execution::context);
}

/// Calls `async_to_sync(coroutine_fn)` on a worker and waits for that on the loop.
template <class F>
awaitable<void> from_a_worker(F coroutine_fn) {
  auto call = sync_to_async([&] { async_to_sync(std::ref(coroutine_fn))(); });
  co_await call();
}

}  // namespace

TEST_CASE("under a user's strand, nested async code runs inside that strand") {
  asio::io_context loop;
  auto strand = asio::make_strand(loop);
  int inside = 0;
  auto check = [&]() -> awaitable<void> {
    inside += strand.running_in_this_thread();
    co_await yield_to_loop();
    inside += strand.running_in_this_thread();
  };
  std::exception_ptr failure;
  asio::co_spawn(
      strand, [&] { return from_a_worker(check); }, [&](std::exception_ptr e) { failure = e; });
  loop.run();
  CHECK_FALSE(failure);
  CHECK(inside == 2);
}

TEST_CASE("under a user's io_context with two threads, nested async code runs on one of the two") {
  asio::io_context loop;
  std::atomic<int> inside{0};
  auto check = [&]() -> awaitable<void> {
    inside += loop.get_executor().running_in_this_thread();
    co_await yield_to_loop();
    inside += loop.get_executor().running_in_this_thread();
  };
  std::atomic<int> ended{0}, failed{0}, resumed_inside{0};
  for (int i = 0; i < 100; ++i)
    asio::co_spawn(
        loop,
        [&]() -> awaitable<void> {
          co_await from_a_worker(check);
          resumed_inside += loop.get_executor().running_in_this_thread();
        },
        [&](std::exception_ptr e) {
          failed += e != nullptr;
          ++ended;
        });
  std::thread second([&] { loop.run(); });
  loop.run();
  second.join();
  CHECK(ended == 100);
  CHECK(failed == 0);
  CHECK(inside == 200);
  CHECK(resumed_inside == 100);
}

TEST_CASE("under an asio::thread_pool, nested async code runs on that pool") {
  asio::thread_pool threads(2);
  std::atomic<int> inside{0}, failed{0};
  auto here = [&] { return threads.get_executor().running_in_this_thread(); };
  auto check = [&]() -> awaitable<void> {
    inside += here();
    co_await yield_to_loop();
    inside += here();
  };
  for (int i = 0; i < 20; ++i)
    asio::co_spawn(
        threads,
        [&]() -> awaitable<void> {
          co_await from_a_worker(check);
          inside += here();
          auto sensitive = sync_to_async([&] { return here(); }, thread_sensitive);
          const bool on_pool = co_await sensitive();
          CHECK_FALSE(on_pool);
          inside += here();
        },
        [&](std::exception_ptr e) { failed += e != nullptr; });
  threads.join();
  CHECK(failed == 0);
  CHECK(inside == 80);
}

TEST_CASE(
    "never_resume_wrong_thread: a coroutine is on its own loop after every kind of crossing") {
  bothworlds::worker_pool small(bothworlds::worker_pool_options{.soft_limit = 1, .hard_limit = 1});
  asio::thread_pool threads(1);
  const asio::any_io_executor elsewhere = threads.get_executor();
  auto on_one_loop = [&] {
    run_async_root([&]() -> awaitable<void> {
      const long self = kernel_thread_id();
      auto plain = sync_to_async([] {});
      auto sensitive = sync_to_async([] {}, thread_sensitive);
      auto on_small = sync_to_async([] {}, {.pool = &small});
      auto on_executor = sync_to_async([] {}, {.executor = &elsewhere});
      auto throws = sync_to_async([] { throw 1; });
      auto nested = sync_to_async([&] {
        async_to_sync([&]() -> awaitable<void> {
          CHECK(kernel_thread_id() == self);
          co_await plain();
          CHECK(kernel_thread_id() == self);
        })();
      });
      auto body = [&]() -> awaitable<void> {
        co_await sensitive();
        CHECK(kernel_thread_id() == self);
      };
      for (int i = 0; i < 50; ++i) {
        co_await plain();
        CHECK(kernel_thread_id() == self);
        co_await sensitive();
        CHECK(kernel_thread_id() == self);
        co_await on_small();
        CHECK(kernel_thread_id() == self);
        co_await on_executor();
        CHECK(kernel_thread_id() == self);
        co_await nested();
        CHECK(kernel_thread_id() == self);
        co_await with_thread_sensitive_context(body);
        CHECK(kernel_thread_id() == self);
        bool thrown = false;
        try {
          co_await throws();
        } catch (int) {
          thrown = true;
        }
        CHECK(thrown);
        CHECK(kernel_thread_id() == self);
      }
    });
  };
  std::thread second(on_one_loop), third(on_one_loop);
  on_one_loop();
  second.join();
  third.join();
}

TEST_CASE(
    "two_loops_one_process: loops on two threads, each with loops below it, keep to themselves") {
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t)
    threads.emplace_back([] {
      run_async_root([]() -> awaitable<void> {
        const long self = kernel_thread_id();
        auto executor = co_await asio::this_coro::executor;
        auto* own_loop = &asio::query(executor, asio::execution::context);
        for (int i = 0; i < 50; ++i) {
          auto nested = sync_to_async([&] {
            const long worker = kernel_thread_id();
            CHECK(async_to_sync(thread_of_coroutine)() == self);
            CHECK(async_to_sync(loop_of_coroutine)() == own_loop);
            auto fresh = async_to_sync(
                [&]() -> awaitable<void> {
                  CHECK(kernel_thread_id() == worker);
                  auto here = co_await asio::this_coro::executor;
                  // On this loop; by then a helper may be driving it, if the pool was full and this
                  // worker helps out.
                  auto again = sync_to_async([&] { return async_to_sync(loop_of_coroutine)(); });
                  auto* const below = co_await again();
                  CHECK(below == &asio::query(here, asio::execution::context));
                },
                {.force_new_loop = true});
            fresh();
            CHECK(async_to_sync(thread_of_coroutine)() == self);
          });
          co_await nested();
          CHECK(kernel_thread_id() == self);
        }
      });
    });
  for (auto& thread : threads) thread.join();
}

TEST_CASE("parent_loop_after_force_new_loop: later calls go to the parent loop again, or still") {
  run_async_root([]() -> awaitable<void> {
    const long self = kernel_thread_id();
    auto on_worker = sync_to_async([&] {
      const long worker = kernel_thread_id();
      auto forced = async_to_sync(thread_of_coroutine, {.force_new_loop = true});
      CHECK(async_to_sync(thread_of_coroutine)() == self);
      CHECK(forced() == worker);
      CHECK(async_to_sync(thread_of_coroutine)() == self);
      CHECK(forced() == worker);
      CHECK(forced() == worker);
      CHECK(async_to_sync(thread_of_coroutine)() == self);
    });
    co_await on_worker();
    co_await on_worker();
  });
}

TEST_CASE("parent_loop_after_force_new_loop: also when the forced call ends with an exception") {
  run_async_root([]() -> awaitable<void> {
    const long self = kernel_thread_id();
    auto on_worker = sync_to_async([&] {
      auto forced = async_to_sync(
          []() -> awaitable<void> {
            co_await yield_to_loop();
            throw 1;
          },
          {.force_new_loop = true});
      CHECK_THROWS_AS(forced(), int);
      CHECK(async_to_sync(thread_of_coroutine)() == self);
    });
    co_await on_worker();
  });
}

TEST_CASE("force_new_loop on a plain thread leaves that thread's kept loop alone") {
  const long self = kernel_thread_id();
  auto* kept = async_to_sync(loop_of_coroutine)();
  CHECK(async_to_sync(thread_of_coroutine, {.force_new_loop = true})() == self);
  CHECK(async_to_sync(loop_of_coroutine)() == kept);
}

TEST_CASE(
    "the loop keeps turning while a thread-sensitive callable runs on the thread that was driving "
    "it") {
  const long root = kernel_thread_id();
  async_to_sync([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    heartbeat beat(executor);
    long ran_on = 0;
    auto blocks = sync_to_async(
        [&] {
          ran_on = kernel_thread_id();
          beat.block_for_ticks(5);
        },
        thread_sensitive);
    for (int i = 0; i < 3; ++i) {
      co_await blocks();
      CHECK(ran_on == root);
    }
  })();
  // The thread has its loop back.
  CHECK(async_to_sync(thread_of_coroutine)() == root);
}

TEST_CASE(
    "other coroutines, calls and nested crossings go on while the root's thread is inside a "
    "callable") {
  const long root = kernel_thread_id();
  async_to_sync([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    gate others_done;
    bool ran_on_root = false;
    auto blocks = sync_to_async(
        [&] {
          ran_on_root = kernel_thread_id() == root;
          others_done.wait();
        },
        thread_sensitive);
    int done = 0;
    auto other = [&]() -> awaitable<void> {
      auto nested = sync_to_async([] {
        async_to_sync([]() -> awaitable<void> {
          auto innermost = sync_to_async([] {});
          co_await innermost();
        })();
      });
      co_await nested();
      if (++done == 3) others_done.open();
    };
    child_task blocked(executor, [&] { return blocks(); });
    child_task a(executor, other), b(executor, other), c(executor, other);
    co_await blocked.join();
    co_await a.join();
    co_await b.join();
    co_await c.join();
    CHECK(ran_on_root);
  })();
}

TEST_CASE("thread-sensitive calls run one at a time, in the order in which they were made") {
  for (bool sync_root : {true, false}) {
    std::vector<int> order;
    in_flight inside;
    auto root = [&]() -> awaitable<void> {
      auto executor = co_await asio::this_coro::executor;
      auto note = sync_to_async(
          [&](int n) {
            in_flight::visit here(inside);
            order.push_back(n);
          },
          thread_sensitive);
      std::vector<child_task> tasks;
      for (int n = 0; n < 100; ++n) tasks.emplace_back(executor, [&note, n] { return note(n); });
      for (auto& task : tasks) co_await task.join();
    };
    if (sync_root)
      async_to_sync(std::ref(root))();
    else
      run_async_root(std::ref(root));
    CHECK(inside.max() == 1);
    std::vector<int> expected(100);
    for (int n = 0; n < 100; ++n) expected[n] = n;
    CHECK(order == expected);
  }
}

TEST_CASE("unrelated_handler: a thread that is blocked in a call runs nothing of anybody else's") {
  bothworlds::worker_pool pool(bothworlds::worker_pool_options{.soft_limit = 1, .hard_limit = 2});
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    loop_event blocked(executor), may_go_on(executor);
    std::atomic<long> blocked_thread{0};
    std::atomic<bool> in_bridge{false};
    auto inner = [&]() -> awaitable<void> {
      blocked.set();
      co_await may_go_on.wait();
    };
    auto blocks = sync_to_async(
        [&] {
          blocked_thread = kernel_thread_id();
          in_bridge = true;
          async_to_sync(std::ref(inner))();
          in_bridge = false;
        },
        {.pool = &pool});
    child_task blocked_chain(executor, [&] { return blocks(); });
    co_await blocked.wait();

    std::atomic<int> on_blocked_stack{0}, ran{0};
    auto note = [&] {
      ++ran;
      on_blocked_stack += in_bridge && kernel_thread_id() == blocked_thread;
    };
    auto unrelated = sync_to_async(note, {.pool = &pool});
    auto unrelated_sensitive = sync_to_async(note, thread_sensitive);
    for (int i = 0; i < 20; ++i) {
      asio::post(pool.get_executor(), note);
      co_await unrelated();
      co_await unrelated_sensitive();
    }
    CHECK(in_bridge);
    may_go_on.set();
    co_await blocked_chain.join();
    const bool all_ran = co_await comes_true_on_loop([&] { return ran == 60; });
    CHECK(all_ran);
    CHECK(on_blocked_stack == 0);
  });
}

TEST_CASE("dead_stack_after_wake: a caller's stack may be gone as soon as it has its result") {
  asio::io_context no_threads;
  const asio::any_io_executor short_lived = thread_per_call_executor(no_threads);
  run_async_root([&]() -> awaitable<void> {
    auto ready = []() -> awaitable<int> { co_return 1; };
    auto later = []() -> awaitable<int> {
      co_await yield_to_loop();
      co_return 1;
    };
    // The thread that blocked ends with the call, and its stack with it.
    auto call = [&] {
      return async_to_sync(std::cref(ready))() + async_to_sync(std::cref(later))();
    };
    auto on_short_lived = sync_to_async(std::ref(call), {.executor = &short_lived});
    auto on_worker = sync_to_async([&] {
      const int got = call();
      // Overwrites the frames that the calls have left.
      volatile unsigned char scribble[4096];
      for (auto& byte : scribble) byte = 0xAA;
      return got;
    });
    int sum = 0;
    for (int i = 0; i < 300; ++i) {
      const int first = co_await on_short_lived();
      const int second = co_await on_worker();
      sum += first + second;
    }
    CHECK(sum == 1200);
  });
}
