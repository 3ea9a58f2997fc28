// SPDX-License-Identifier: BSL-1.0
//
// async_offload: the crossing of sync_to_async for completion tokens other than use_awaitable.

#include "support/kernel_thread_id.hpp"
#include "support/loop_tools.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/error.hpp>
#include <bothworlds/sync_to_async.hpp>
#include <bothworlds/worker_pool.hpp>

#include <boost/asio/bind_executor.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_future.hpp>
#include <doctest/doctest.h>

#include <future>
#include <memory>
#include <string>

using namespace bothworlds::testing;
using bothworlds::async_offload;
using bothworlds::cancel_policy;

TEST_CASE("a callback gets the result, on its associated executor") {
  asio::io_context loop;
  std::string got;
  bool nothing_failed = false;
  long completed_on = 0, ran_on = 0;
  auto callback = asio::bind_executor(loop, [&](std::exception_ptr e, std::string text) {
    nothing_failed = !e;
    got = text;
    completed_on = kernel_thread_id();
  });
  async_offload(
      [&] {
        ran_on = kernel_thread_id();
        return std::string("done");
      },
      callback);
  CHECK(got.empty());
  loop.run();
  CHECK(got == "done");
  CHECK(nothing_failed);
  CHECK(completed_on == kernel_thread_id());
  CHECK(ran_on != kernel_thread_id());
}

TEST_CASE("a callback of a void callable gets the exception alone") {
  asio::io_context loop;
  std::exception_ptr failure;
  async_offload([] { throw 42; },
                asio::bind_executor(loop, [&](std::exception_ptr e) { failure = e; }));
  loop.run();
  REQUIRE(failure);
  CHECK_THROWS_AS(std::rethrow_exception(failure), int);
}

TEST_CASE("a callback on a strand runs inside it") {
  asio::io_context loop;
  auto strand = asio::make_strand(loop);
  bool inside = false;
  async_offload([] {}, asio::bind_executor(strand, [&](std::exception_ptr) {
                  inside = strand.running_in_this_thread();
                }));
  loop.run();
  CHECK(inside);
}

TEST_CASE("use_future: the thread that waits needs no loop") {
  std::future<int> good = async_offload([] { return 42; }, asio::use_future);
  std::future<void> empty = async_offload([] {}, asio::use_future);
  std::future<int> bad =
      async_offload([]() -> int { throw std::invalid_argument("no"); }, asio::use_future);
  CHECK(good.get() == 42);
  empty.get();
  CHECK_THROWS_AS(bad.get(), std::invalid_argument);
}

TEST_CASE("deferred: nothing happens before the operation is started") {
  asio::io_context loop;
  std::atomic<int> calls{0};
  auto operation = async_offload([&] { return ++calls; }, asio::deferred);
  CHECK(calls == 0);
  int got = 0;
  std::move(operation)(asio::bind_executor(loop, [&](std::exception_ptr, int n) { got = n; }));
  loop.run();
  CHECK(got == 1);
  CHECK(calls == 1);
}

TEST_CASE("use_awaitable_t of another executor: a coroutine that knows only its io_context") {
  using executor_type = asio::io_context::executor_type;
  asio::io_context loop;
  int got = 0;
  bool thrown = false;
  auto root = [&]() -> awaitable<void, executor_type> {
    const long loop_id = kernel_thread_id();
    got = co_await async_offload([] { return 42; }, asio::use_awaitable_t<executor_type>{});
    CHECK(kernel_thread_id() == loop_id);
    try {
      co_await async_offload([] { throw 1; }, asio::use_awaitable_t<executor_type>{});
    } catch (int) {
      thrown = true;
    }
    CHECK(kernel_thread_id() == loop_id);
  };
  asio::co_spawn(loop.get_executor(), root, [](std::exception_ptr e) {
    if (e) std::rethrow_exception(e);
  });
  loop.run();
  CHECK(got == 42);
  CHECK(thrown);
}

TEST_CASE("an offloaded callable may call back into async code") {
  auto future = async_offload(
      [] {
        return bothworlds::async_to_sync([]() -> awaitable<int> {
          co_await yield_to_loop();
          co_return 42;
        })();
      },
      asio::use_future);
  CHECK(future.get() == 42);
}

TEST_CASE("a queued operation is cancelled through its slot, and its callable never runs") {
  bothworlds::worker_pool pool(bothworlds::worker_pool_options{.soft_limit = 1, .hard_limit = 1});
  asio::io_context loop;
  gate running, release;
  bool touched = false;
  std::exception_ptr failure;
  asio::cancellation_signal cancel;
  async_offload(
      [&] {
        running.open();
        release.wait();
      },
      asio::bind_executor(loop, [](std::exception_ptr) {}), {.pool = &pool});
  running.wait();
  async_offload(
      [&] { touched = true; },
      asio::bind_cancellation_slot(cancel.slot(), asio::bind_executor(loop,
                                                                      [&](std::exception_ptr e) {
                                                                        failure = e;
                                                                        release.open();
                                                                      })),
      {.pool = &pool});
  asio::post(loop, [&] { cancel.emit(asio::cancellation_type::total); });
  loop.run();
  CHECK_FALSE(touched);
  REQUIRE(failure);
  CHECK_THROWS_AS(std::rethrow_exception(failure), boost::system::system_error);
}

TEST_CASE("a running operation that is abandoned completes at once") {
  asio::io_context loop;
  gate running, release, ended;
  asio::cancellation_signal cancel;
  bool aborted = false;
  async_offload(
      [&] {
        running.open();
        release.wait();
        ended.open();
      },
      asio::bind_cancellation_slot(
          cancel.slot(), asio::bind_executor(loop,
                                             [&](std::exception_ptr e) {
                                               try {
                                                 if (e) std::rethrow_exception(e);
                                               } catch (const boost::system::system_error& s) {
                                                 aborted = is_cancellation(s);
                                               }
                                             })),
      {.on_cancel = cancel_policy::abandon});
  running.wait();
  asio::post(loop, [&] { cancel.emit(asio::cancellation_type::terminal); });
  loop.run();
  CHECK(aborted);
  CHECK_FALSE(ended.is_open());
  release.open();
  ended.wait();
}

TEST_CASE("a result goes with its handler, also where the handler's slot lives on") {
  asio::io_context loop;
  asio::cancellation_signal cancel;
  const auto result = std::make_shared<int>(1);
  bool seen = false;
  async_offload([&result] { return result; },
                asio::bind_cancellation_slot(
                    cancel.slot(), asio::bind_executor(loop, [&](std::exception_ptr,
                                                                 const std::shared_ptr<int>& got) {
                      seen = got == result;
                    })));
  loop.run();
  CHECK(seen);
  CHECK(result.use_count() == 1);
}

TEST_CASE("complete_with_all_slots_taken: an operation completes while every worker is busy") {
  bothworlds::worker_pool pool(bothworlds::worker_pool_options{.soft_limit = 1, .hard_limit = 1});
  asio::io_context loop;
  gate next_is_running, release;
  bool completed = false;
  async_offload([] {},
                asio::bind_executor(loop,
                                    [&](std::exception_ptr) {
                                      completed = true;
                                      release.open();
                                    }),
                {.pool = &pool});
  async_offload(
      [&] {
        next_is_running.open();
        release.wait();
      },
      asio::bind_executor(loop, [](std::exception_ptr) {}), {.pool = &pool});
  next_is_running.wait();
  CHECK_FALSE(completed);
  loop.run();
  CHECK(completed);
}
