// SPDX-License-Identifier: BSL-1.0
//
// Cancellation of calls: three policies, every phase, twice and too late.

#include "support/call_tools.hpp"
#include "support/kernel_thread_id.hpp"
#include "support/loop_tools.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/error.hpp>
#include <bothworlds/sync_to_async.hpp>
#include <bothworlds/thread_sensitive.hpp>
#include <bothworlds/worker_pool.hpp>

#include <boost/asio/experimental/awaitable_operators.hpp>
#include <doctest/doctest.h>

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>

using namespace bothworlds::testing;
using namespace boost::asio::experimental::awaitable_operators;
using bothworlds::async_to_sync;
using bothworlds::cancel_policy;
using bothworlds::sync_to_async;
using bothworlds::worker_pool;
using bothworlds::worker_pool_options;

namespace {

constexpr cancel_policy all_policies[] = {cancel_policy::wait, cancel_policy::abandon,
                                          cancel_policy::interrupt};

}  // namespace

TEST_CASE(
    "a queued call that is cancelled never runs, whatever the policy and the type of "
    "cancellation") {
  run_async_root([]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    for (auto policy : all_policies) {
      for (auto type : {asio::cancellation_type::terminal, asio::cancellation_type::partial,
                        asio::cancellation_type::total}) {
        occupied_pool occupied(executor);
        co_await occupied.wait_until_busy();
        bool touched = false;
        int interrupted = 0;
        const std::function<void()> interruptor = [&] { ++interrupted; };
        auto call = sync_to_async(
            [&] { touched = true; },
            {.pool = &occupied.pool(), .on_cancel = policy, .interruptor = &interruptor});
        child_task queued(executor, [&]() -> awaitable<void> {
          co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
          co_await call();
        });
        co_await yield_to_loop();
        co_await yield_to_loop();
        CHECK(occupied.pool().stats().queued == 1);
        queued.cancel(type);
        // It ends while the worker is still busy.
        const bool cancelled = co_await ends_cancelled(queued);
        CHECK(cancelled);
        CHECK(occupied.pool().stats().queued == 0);
        co_await occupied.release();
        auto flush = sync_to_async([] {}, {.pool = &occupied.pool()});
        co_await flush();
        CHECK_FALSE(touched);
        CHECK(interrupted == 0);
      }
    }
  });
}

TEST_CASE("a queued thread-sensitive call that is cancelled never runs") {
  bool touched = false;
  async_to_sync([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    loop_event busy(executor);
    gate release;
    auto occupy = sync_to_async(
        [&] {
          asio::post(executor, [&] { busy.set(); });
          release.wait();
        },
        {.thread_sensitive = true});
    auto call = sync_to_async([&] { touched = true; }, {.thread_sensitive = true});
    child_task occupant(executor, [&] { return occupy(); });
    co_await busy.wait();
    child_task queued(executor, [&] { return call(); });
    co_await yield_to_loop();
    queued.cancel();
    const bool cancelled = co_await ends_cancelled(queued);
    CHECK(cancelled);
    release.open();
    co_await occupant.join();
  })();
  CHECK_FALSE(touched);
}

TEST_CASE("wait: a running call is waited for, and its result or exception is delivered") {
  run_async_root([]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    for (bool throws : {false, true}) {
      gate running, release;
      auto call = sync_to_async([&] {
        running.open();
        release.wait();
        if (throws) throw 7;
        return 42;
      });
      int got = 0, thrown = 0;
      child_task task(executor, [&]() -> awaitable<void> {
        try {
          const int result = co_await call();
          got = result;
        } catch (int n) {
          thrown = n;
        }
      });
      co_await yield_to_loop();
      running.wait();
      task.cancel();
      for (int i = 0; i < 10; ++i) co_await yield_to_loop();
      CHECK_FALSE(task.done());
      release.open();
      co_await task.join();
      CHECK(got == (throws ? 0 : 42));
      CHECK(thrown == (throws ? 7 : 0));
    }
  });
}

TEST_CASE("a callable that takes a stop token is asked to stop, whatever the policy") {
  run_async_root([]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    for (auto policy : all_policies) {
      gate running, stopped;
      auto call = sync_to_async(
          [&](std::stop_token token) {
            running.open();
            std::mutex mutex;
            std::condition_variable_any changed;
            std::unique_lock lock(mutex);
            changed.wait(lock, token, [] { return false; });
            stopped.open();
            return 42;
          },
          {.on_cancel = policy});
      int got = 0;
      child_task task(executor, [&]() -> awaitable<void> {
        const int result = co_await call();
        got = result;
      });
      co_await yield_to_loop();
      running.wait();
      task.cancel();
      const bool cancelled = co_await ends_cancelled(task);
      CHECK(cancelled == (policy == cancel_policy::abandon));
      CHECK(got == (policy == cancel_policy::abandon ? 0 : 42));
      stopped.wait();
    }
    // What is abandoned may still be returning from the callable; its captures are this frame's.
    const bool idle = co_await comes_true_on_loop(
        [] { return bothworlds::default_worker_pool().stats().busy == 0; });
    CHECK(idle);
  });
}

TEST_CASE(
    "cancelled_call_frees_lane: an abandoned call completes at once, and stays counted and listed "
    "until it ends") {
  worker_pool pool(worker_pool_options{.soft_limit = 1, .hard_limit = 1});
  gate running, release;
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    auto call = sync_to_async(
        [&] {
          running.open();
          release.wait();
        },
        {.pool = &pool, .on_cancel = cancel_policy::abandon, .name = "left behind"});
    child_task task(executor, [&] { return call(); });
    co_await yield_to_loop();
    running.wait();
    CHECK(pool.stats().abandoned == 0);
    task.cancel();
    const bool cancelled = co_await ends_cancelled(task);
    CHECK(cancelled);
    CHECK_FALSE(release.is_open());
    CHECK(pool.stats().abandoned == 1);
    CHECK(pool.stats().busy == 1);

    // It keeps its slot: the next call waits for it.
    bool touched = false;
    auto next = sync_to_async([&] { touched = true; }, {.pool = &pool});
    child_task behind(executor, [&] { return next(); });
    for (int i = 0; i < 10; ++i) co_await yield_to_loop();
    CHECK_FALSE(touched);
    CHECK(pool.stats().queued == 1);
    behind.cancel();
    const bool behind_cancelled = co_await ends_cancelled(behind);
    CHECK(behind_cancelled);
  });
  const auto left = pool.shutdown(std::chrono::milliseconds(0));
  REQUIRE(left.size() == 1);
  CHECK(left[0].name == "left behind");
  release.open();
  CHECK(comes_true([&] { return pool.stats().busy == 0; }));
  CHECK(pool.shutdown(std::chrono::seconds(10)).empty());
}

TEST_CASE(
    "cancelled_call_frees_lane: a lane whose call was abandoned serves the next when that call "
    "ends") {
  run_async_root([]() -> awaitable<void> {
    gate running, release;
    auto body = [&]() -> awaitable<void> {
      auto executor = co_await asio::this_coro::executor;
      auto call = sync_to_async(
          [&] {
            running.open();
            release.wait();
          },
          {.thread_sensitive = true, .on_cancel = cancel_policy::abandon});
      child_task task(executor, [&] { return call(); });
      co_await yield_to_loop();
      running.wait();
      task.cancel();
      const bool cancelled = co_await ends_cancelled(task);
      CHECK(cancelled);
      bool touched = false;
      auto next = sync_to_async([&] { touched = true; }, {.thread_sensitive = true});
      child_task behind(executor, [&] { return next(); });
      for (int i = 0; i < 10; ++i) co_await yield_to_loop();
      CHECK_FALSE(touched);
      release.open();
      co_await behind.join();
      CHECK(touched);
    };
    co_await bothworlds::with_thread_sensitive_context(body);
  });
}

TEST_CASE("an abandoned call's exception and result go nowhere, and hurt nobody") {
  run_async_root([]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    for (bool throws : {false, true}) {
      gate running, release;
      const auto witness = std::make_shared<int>(7);
      auto call = sync_to_async(
          [&] {
            running.open();
            release.wait();
            if (throws) throw witness;
            return std::make_unique<std::shared_ptr<int>>(witness);
          },
          {.on_cancel = cancel_policy::abandon});
      child_task task(executor, [&]() -> awaitable<void> { co_await call(); });
      co_await yield_to_loop();
      running.wait();
      task.cancel();
      const bool cancelled = co_await ends_cancelled(task);
      CHECK(cancelled);
      release.open();
      const bool idle = co_await comes_true_on_loop(
          [] { return bothworlds::default_worker_pool().stats().busy == 0; });
      CHECK(idle);
      // The loop may have its part in letting go of the call.
      const bool destroyed = co_await comes_true_on_loop([&] { return witness.use_count() == 1; });
      CHECK(destroyed);
    }
  });
}

TEST_CASE("cancel_twice_or_late: the outcome is the same, and nobody is left behind") {
  worker_pool pool(worker_pool_options{.soft_limit = 2, .hard_limit = 2});
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    for (auto policy : all_policies) {
      gate running, release;
      auto call = sync_to_async(
          [&] {
            running.open();
            release.wait();
            return 42;
          },
          {.pool = &pool, .on_cancel = policy});
      int got = 0;
      child_task task(executor, [&]() -> awaitable<void> {
        const int result = co_await call();
        got = result;
      });
      co_await yield_to_loop();
      running.wait();
      for (int i = 0; i < 3; ++i) task.cancel();
      co_await yield_to_loop();
      for (int i = 0; i < 3; ++i) task.cancel();
      release.open();
      const bool cancelled = co_await ends_cancelled(task);
      for (int i = 0; i < 3; ++i) task.cancel();
      CHECK(cancelled == (policy == cancel_policy::abandon));
      CHECK(got == (cancelled ? 0 : 42));
      const bool idle = co_await comes_true_on_loop([&] { return pool.stats().busy == 0; });
      CHECK(idle);
    }
    CHECK(pool.stats().queued == 0);
    CHECK(pool.stats().abandoned == 1);
  });
}

TEST_CASE(
    "cancel_before_pickup: ten thousand cancelled calls leave the number of threads as it was") {
  worker_pool pool(worker_pool_options{.soft_limit = 4, .hard_limit = 4});
  run_async_root([&]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    std::atomic<int> ran{0};
    int cancelled = 0, completed = 0, most_threads = 0;
    const int before = kernel_thread_count();
    auto cancel_one = [&](auto& call) -> awaitable<void> {
      child_task task(executor, [&] { return call(); });
      if ((cancelled + completed) % 2) co_await yield_to_loop();
      task.cancel();
      const bool was_cancelled = co_await ends_cancelled(task);
      (was_cancelled ? cancelled : completed) += 1;
      if ((cancelled + completed) % 100 == 0)
        most_threads = std::max(most_threads, kernel_thread_count());
    };

    // Half of them at about the time when a worker picks the call up.
    auto racing = sync_to_async([&] { ++ran; }, {.pool = &pool});
    for (int i = 0; i < 5'000; ++i) co_await cancel_one(racing);
    CHECK(cancelled + completed == 5'000);
    const bool idle = co_await comes_true_on_loop([&] { return pool.stats().busy == 0; });
    CHECK(idle);
    CHECK(pool.stats().queued == 0);
    CHECK(ran >= completed);
    CHECK(pool.stats().threads <= 4);

    // And half of them when none can.
    occupied_pool occupied(executor);
    co_await occupied.wait_until_busy();
    ran = cancelled = completed = 0;
    auto behind = sync_to_async([&] { ++ran; }, {.pool = &occupied.pool()});
    for (int i = 0; i < 5'000; ++i) co_await cancel_one(behind);
    CHECK(cancelled == 5'000);
    CHECK(occupied.pool().stats().queued == 0);
    co_await occupied.release();
    co_await behind();
    CHECK(ran == 1);
    CHECK(occupied.pool().stats().threads == 1);
    CHECK(most_threads <= before + 5);
  });
}

TEST_CASE("a call beside a timer is cancelled by it, in every phase") {
  run_async_root([]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    SUBCASE("queued: it never runs") {
      occupied_pool occupied(executor);
      co_await occupied.wait_until_busy();
      bool touched = false;
      auto call = sync_to_async([&] { touched = true; }, {.pool = &occupied.pool()});
      asio::steady_timer timer(executor, std::chrono::milliseconds(5));
      auto first = co_await (call() || timer.async_wait(asio::use_awaitable));
      CHECK(first.index() == 1);
      co_await occupied.release();
      CHECK_FALSE(touched);
    }
    SUBCASE("running: it is waited for") {
      gate running, release;
      bool ended = false;
      auto call = sync_to_async([&] {
        running.open();
        release.wait();
        ended = true;
      });
      auto timer = [&]() -> awaitable<void> {
        co_await yield_to_loop();
        running.wait();
        asio::post(executor, [&] { release.open(); });
      };
      auto first = co_await (call() || timer());
      CHECK(first.index() == 1);
      CHECK(ended);
    }
    SUBCASE("completed: it wins, and the timer goes") {
      auto call = sync_to_async([] { return 42; });
      asio::steady_timer timer(executor, std::chrono::hours(1));
      auto first = co_await (call() || timer.async_wait(asio::use_awaitable));
      REQUIRE(first.index() == 0);
      CHECK(std::get<0>(first) == 42);
    }
  });
}

TEST_CASE("a call in a coroutine that was cancelled before is not started") {
  run_async_root([]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    bool touched = false;
    auto call = sync_to_async([&] { touched = true; });
    child_task task(executor, [&]() -> awaitable<void> {
      bool caught = false;
      try {
        co_await wait_for_ever();
      } catch (const boost::system::system_error&) {
        caught = true;
      }
      CHECK(caught);
      co_await call();
    });
    co_await yield_to_loop();
    task.cancel();
    const bool was_cancelled = co_await ends_cancelled(task);
    CHECK(was_cancelled);
    CHECK_FALSE(touched);
  });
}
