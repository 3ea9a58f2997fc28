// SPDX-License-Identifier: BSL-1.0
//
// What sync_to_async refuses, and how: nothing is touched, and the error says what is wrong.

#include "support/loop_tools.hpp"
#include "support/test_executors.hpp"

#include <bothworlds/error.hpp>
#include <bothworlds/sync_to_async.hpp>
#include <bothworlds/worker_pool.hpp>

#include <boost/asio/thread_pool.hpp>
#include <doctest/doctest.h>

#include <functional>
#include <memory>

using namespace bothworlds::testing;
using bothworlds::errc;
using bothworlds::misuse_error;
using bothworlds::sync_to_async;

namespace {

/// The code of the misuse_error that `attempt`, a coroutine function, ends with.
template <class F>
boost::system::error_code misuse_of(F attempt) {
  boost::system::error_code code;
  run_async_root([&]() -> awaitable<void> {
    try {
      co_await attempt();
    } catch (const misuse_error& e) {
      code = e.code();
    }
  });
  return code;
}

}  // namespace

TEST_CASE("a null callable is refused by name, not by std::bad_function_call") {
  CHECK(misuse_of([]() -> awaitable<void> {
          auto call = sync_to_async(std::function<int()>());
          co_await call();
        }) == errc::invalid_options);
  CHECK(misuse_of([]() -> awaitable<void> {
          auto call = sync_to_async(static_cast<int (*)()>(nullptr));
          co_await call();
        }) == errc::invalid_options);
}

TEST_CASE("options that contradict each other are refused, and the callable is not touched") {
  asio::thread_pool threads(1);
  bothworlds::worker_pool pool;
  const asio::any_io_executor executor = threads.get_executor();
  const asio::any_io_executor empty;
  bool touched = false;
  auto touch = [&] { touched = true; };
  auto attempt = [&](bothworlds::sync_options options) {
    return misuse_of([&]() -> awaitable<void> {
      auto call = sync_to_async(touch, options);
      co_await call();
    });
  };
  CHECK(attempt({.executor = &empty}) == errc::invalid_options);
  CHECK(attempt({.thread_sensitive = true, .executor = &executor}) == errc::invalid_options);
  CHECK(attempt({.pool = &pool, .executor = &executor}) == errc::invalid_options);
  CHECK_FALSE(touched);
}

TEST_CASE("a pool that is shut down refuses with pool_closed") {
  bothworlds::worker_pool pool;
  CHECK(pool.shutdown(std::chrono::seconds(1)).empty());
  run_async_root([&]() -> awaitable<void> {
    bool touched = false;
    auto call = sync_to_async([&] { touched = true; }, {.pool = &pool});
    boost::system::error_code code;
    try {
      co_await call();
    } catch (const bothworlds::error& e) {
      code = e.code();
      CHECK_FALSE(e.report().empty());
    }
    CHECK(code == errc::pool_closed);
    CHECK_FALSE(touched);
  });
}

TEST_CASE("an executor that takes no work passes its own exception on") {
  asio::io_context context;
  const asio::any_io_executor executor = refusing_executor(context);
  run_async_root([&]() -> awaitable<void> {
    bool touched = false;
    auto call = sync_to_async([&] { touched = true; }, {.executor = &executor});
    bool refused = false;
    try {
      co_await call();
    } catch (const submit_refused&) {
      refused = true;
    }
    CHECK(refused);
    CHECK_FALSE(touched);
  });
}

TEST_CASE("an executor that drops its work fails the call") {
  auto context = std::make_unique<asio::io_context>();
  const asio::any_io_executor executor = context->get_executor();
  run_async_root([&]() -> awaitable<void> {
    auto loop = co_await asio::this_coro::executor;
    auto call = sync_to_async([] {}, {.executor = &executor});
    boost::system::error_code code;
    child_task task(loop, [&]() -> awaitable<void> {
      try {
        co_await call();
      } catch (const bothworlds::error& e) {
        code = e.code();
      }
    });
    co_await yield_to_loop();
    context.reset();
    co_await task.join();
    CHECK(code == errc::pool_closed);
  });
}
