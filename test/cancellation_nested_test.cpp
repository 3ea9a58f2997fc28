// SPDX-License-Identifier: BSL-1.0
//
// Cancellation through nested crossings: downwards, upwards, and in between.

#include "support/call_tools.hpp"
#include "support/kernel_thread_id.hpp"
#include "support/loop_tools.hpp"
#include "support/process.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/error.hpp>
#include <bothworlds/sync_to_async.hpp>

#include <doctest/doctest.h>

#include <stop_token>

using namespace bothworlds::testing;
using bothworlds::async_to_sync;
using bothworlds::sync_to_async;

TEST_CASE(
    "cancel_in_handoff: a cancel between the post and the first step of nested async code is not "
    "lost") {
  for (int round = 0; round < 20; ++round) {
    run_async_root([&]() -> awaitable<void> {
      auto executor = co_await asio::this_coro::executor;
      gate parked;
      std::atomic<long> worker{0};
      auto park = sync_to_async([&] {
        worker = kernel_thread_id();
        parked.open();
        async_to_sync(wait_for_ever)();
      });
      child_task task(executor, [&] { return park(); });
      co_await yield_to_loop();
      // The loop stands still until the worker has posted, at least in the even rounds.
      parked.wait();
      if (round % 2 == 0) CHECK(comes_true([&] { return thread_sleeps(worker); }));
      task.cancel();
      const bool cancelled = co_await ends_cancelled(task);
      CHECK(cancelled);
    });
  }
}

TEST_CASE(
    "cancel_after_nesting: after a nested round trip a later cancel still reaches the inner call") {
  run_async_root([]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    for (bool sensitive : {false, true}) {
      loop_event second_begun(executor);
      bool inner_cancelled = false;
      auto second = [&]() -> awaitable<void> {
        second_begun.set();
        try {
          co_await wait_for_ever();
        } catch (const boost::system::system_error& e) {
          inner_cancelled = is_cancellation(e);
          throw;
        }
      };
      auto nested = sync_to_async(
          [&] {
            for (int i = 0; i < 3; ++i) async_to_sync(yield_to_loop)();
            async_to_sync(std::ref(second))();
          },
          {.thread_sensitive = sensitive});
      child_task task(executor, [&] { return nested(); });
      co_await second_begun.wait();
      task.cancel();
      const bool cancelled = co_await ends_cancelled(task);
      CHECK(cancelled);
      CHECK(inner_cancelled);
    }
  });
}

TEST_CASE(
    "cancel_after_nesting: a cancel that lands between two nested calls reaches the next one") {
  run_async_root([]() -> awaitable<void> {
    auto executor = co_await asio::this_coro::executor;
    for (bool sensitive : {false, true}) {
      loop_event between(executor);
      gate cancel_is_out;
      auto nested = sync_to_async(
          [&] {
            async_to_sync(yield_to_loop)();
            asio::post(executor, [&] { between.set(); });
            cancel_is_out.wait();
            async_to_sync(wait_for_ever)();
          },
          {.thread_sensitive = sensitive});
      child_task task(executor, [&] { return nested(); });
      co_await between.wait();
      task.cancel();
      co_await yield_to_loop();
      cancel_is_out.open();
      const bool cancelled = co_await ends_cancelled(task);
      CHECK(cancelled);
    }
  });
}

TEST_CASE("a cancel travels down through five layers, and up again as operation_aborted") {
  struct layers {
    loop_event& innermost;
    awaitable<void> down(int depth) {
      if (depth == 0) {
        innermost.set();
        co_await wait_for_ever();
      }
      auto call = sync_to_async(&layers::block, {.thread_sensitive = depth % 2 == 0});
      co_await call(this, depth);
    }
    void block(int depth) { async_to_sync (&layers::down)(this, depth - 1); }
  };
  SUBCASE("from an async root, by a slot") {
    run_async_root([]() -> awaitable<void> {
      auto executor = co_await asio::this_coro::executor;
      loop_event innermost(executor);
      layers nested{innermost};
      child_task task(executor, [&] { return nested.down(5); });
      co_await innermost.wait();
      task.cancel();
      const bool cancelled = co_await ends_cancelled(task);
      CHECK(cancelled);
    });
  }
  SUBCASE("from a sync root, by a stop token") {
    std::stop_source source;
    bool aborted = false;
    try {
      async_to_sync(
          [&]() -> awaitable<void> {
            auto executor = co_await asio::this_coro::executor;
            loop_event innermost(executor);
            layers nested{innermost};
            child_task stopper(executor, [&]() -> awaitable<void> {
              co_await innermost.wait();
              source.request_stop();
            });
            co_await nested.down(5);
          },
          {.stop = source.get_token()})();
    } catch (const boost::system::system_error& e) {
      aborted = is_cancellation(e);
    }
    CHECK(aborted);
  }
  SUBCASE("from a sync root, by a timeout") {
    boost::system::error_code code;
    try {
      async_to_sync(
          [&]() -> awaitable<void> {
            auto executor = co_await asio::this_coro::executor;
            loop_event innermost(executor);
            layers nested{innermost};
            co_await nested.down(5);
          },
          {.timeout = std::chrono::milliseconds(50)})();
    } catch (const bothworlds::error& e) {
      code = e.code();
    }
    CHECK(code == bothworlds::errc::timed_out);
  }
}
