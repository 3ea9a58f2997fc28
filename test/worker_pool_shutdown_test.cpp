// SPDX-License-Identifier: BSL-1.0
//
// Ends of a pool: shutdown and what is left over, destruction, threads that cannot be had.

#include "support/call_tools.hpp"
#include "support/kernel_thread_id.hpp"
#include "support/loop_tools.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/error.hpp>
#include <bothworlds/sync_to_async.hpp>
#include <bothworlds/worker_pool.hpp>

#include <boost/asio/use_future.hpp>
#include <doctest/doctest.h>

#include <future>
#include <string>
#include <thread>
#include <vector>

using namespace bothworlds::testing;
using bothworlds::errc;
using bothworlds::sync_to_async;
using bothworlds::worker_pool;
using bothworlds::worker_pool_options;

TEST_CASE("shutdown waits for what runs and for what is queued, and then has nothing to list") {
  worker_pool pool(worker_pool_options{.soft_limit = 1});
  gate running, release;
  std::atomic<int> ended{0};
  std::thread loop([&] {
    run_async_root([&]() -> awaitable<void> {
      auto executor = co_await asio::this_coro::executor;
      auto call = sync_to_async(
          [&] {
            running.open();
            release.wait();
            ++ended;
          },
          {.pool = &pool});
      child_task first(executor, [&] { return call(); });
      child_task second(executor, [&] { return call(); });
      co_await first.join();
      co_await second.join();
    });
  });
  running.wait();
  CHECK(comes_true([&] { return pool.stats().queued == 1; }));
  std::thread releaser([&] { release.open(); });
  CHECK(pool.shutdown(std::chrono::seconds(60)).empty());
  CHECK(ended == 2);
  loop.join();
  releaser.join();
}

TEST_CASE("shutdown lists what did not end, and fails what never ran") {
  worker_pool pool(worker_pool_options{.soft_limit = 1});
  gate running, release;
  std::atomic<bool> touched{false};
  boost::system::error_code queued_outcome;
  std::atomic<long> worker{0};
  std::thread loop([&] {
    run_async_root([&]() -> awaitable<void> {
      auto executor = co_await asio::this_coro::executor;
      auto stuck = sync_to_async(
          [&] {
            worker = kernel_thread_id();
            running.open();
            release.wait();
          },
          {.pool = &pool, .name = "stuck"});
      auto queued = sync_to_async([&] { touched = true; }, {.pool = &pool, .name = "queued"});
      child_task first(executor, [&] { return stuck(); });
      queued_outcome = co_await outcome(queued);
      // What was never run fails while the other one still runs.
      CHECK_FALSE(release.is_open());
      release.open();
      co_await first.join();
    });
  });
  running.wait();
  CHECK(comes_true([&] { return pool.stats().queued == 1; }));
  const auto left = pool.shutdown(std::chrono::milliseconds(10));
  loop.join();
  REQUIRE(left.size() == 2);
  CHECK(left[0].name == "stuck");
  CHECK(left[0].running_for.count() >= 0);
  CHECK(left[0].kernel_thread_id == worker);
  CHECK(std::string_view(left[0].where.file_name()).ends_with("worker_pool_shutdown_test.cpp"));
  CHECK(left[1].name == "queued");
  CHECK(left[1].kernel_thread_id == 0);
  CHECK_FALSE(touched);
  CHECK(queued_outcome == errc::pool_closed);
  CHECK(pool.shutdown(std::chrono::seconds(60)).empty());
}

TEST_CASE("call_after_shutdown: refused with pool_closed, by the bridge and by the executor") {
  worker_pool pool;
  auto executor = pool.get_executor();
  run_async_root([&]() -> awaitable<void> {
    auto call = sync_to_async([] { return 42; }, {.pool = &pool});
    const int got = co_await call();
    CHECK(got == 42);
  });
  CHECK(pool.shutdown(std::chrono::seconds(60)).empty());
  CHECK(pool.shutdown(std::chrono::seconds(60)).empty());
  bool touched = false;
  run_async_root([&]() -> awaitable<void> {
    auto call = sync_to_async([&] { touched = true; }, {.pool = &pool});
    for (int i = 0; i < 3; ++i) {
      const auto refused = co_await outcome(call);
      CHECK(refused == errc::pool_closed);
    }
  });
  boost::system::error_code refused;
  try {
    asio::post(executor, [&] { touched = true; });
  } catch (const bothworlds::error& e) {
    refused = e.code();
  }
  CHECK(refused == errc::pool_closed);
  CHECK_FALSE(touched);
  CHECK(comes_true([&] { return pool.stats().threads == 0; }));
}

TEST_CASE(
    "call_after_shutdown: calls that race with the shutdown run or are refused, none is lost") {
  for (int round = 0; round < 20; ++round) {
    worker_pool pool(worker_pool_options{.soft_limit = 2});
    std::atomic<int> ran{0};
    int completed = 0, refused = 0;
    gate begun;
    std::thread loop([&] {
      run_async_root([&]() -> awaitable<void> {
        auto call = sync_to_async([&] { ++ran; }, {.pool = &pool});
        for (int i = 0; i < 200; ++i) {
          if (i == 20) begun.open();
          const auto code = co_await outcome(call);
          if (code)
            refused += code == errc::pool_closed;
          else
            ++completed;
        }
      });
    });
    begun.wait();
    CHECK(pool.shutdown(std::chrono::seconds(60)).empty());
    loop.join();
    CHECK(completed + refused == 200);
    CHECK(ran == completed);
  }
}

TEST_CASE("the destructor waits for its calls, and its threads are gone") {
  std::atomic<int> ran{0};
  std::vector<std::future<void>> results;
  {
    worker_pool pool(worker_pool_options{.soft_limit = 2});
    for (int i = 0; i < 100; ++i)
      results.push_back(
          bothworlds::async_offload([&] { ++ran; }, asio::use_future, {.pool = &pool}));
  }
  CHECK(ran == 100);
  for (auto& result : results) result.get();
}

TEST_CASE(
    "thread_creation_fails: a call that no thread can serve fails with a typed error, and does not "
    "run") {
  worker_pool pool(worker_pool_options{.soft_limit = 2, .stack_size = std::size_t{1} << 46});
  run_async_root([&]() -> awaitable<void> {
    bool touched = false;
    auto call = sync_to_async([&] { touched = true; }, {.pool = &pool});
    for (int i = 0; i < 3; ++i) {
      bool typed = false;
      try {
        co_await call();
      } catch (const boost::system::system_error& e) {
        typed = e.code().failed();
      }
      CHECK(typed);
    }
    CHECK_FALSE(touched);
    CHECK(pool.stats().threads == 0);
    CHECK(pool.stats().busy == 0);
    CHECK(pool.stats().queued == 0);
  });
  CHECK(pool.shutdown(std::chrono::seconds(1)).empty());
}

TEST_CASE("thread_creation_fails: under a sync root the caller's own thread can serve the call") {
  worker_pool pool(worker_pool_options{.soft_limit = 2, .stack_size = std::size_t{1} << 46});
  long ran_on = 0;
  bool typed = false;
  bothworlds::async_to_sync([&]() -> awaitable<void> {
    auto call = sync_to_async(kernel_thread_id, {.pool = &pool});
    try {
      ran_on = co_await call();
    } catch (const boost::system::system_error& e) {
      typed = e.code().failed();
    }
  })();
  // It ran on a thread that lives, or there was an error: one of the two.
  CHECK((ran_on == kernel_thread_id()) != typed);
}
