// SPDX-License-Identifier: BSL-1.0
#pragma once

/// What cases share that is itself made of the library's calls.

#include "support/kernel_thread_id.hpp"
#include "support/loop_tools.hpp"

#include <bothworlds/error.hpp>
#include <bothworlds/sync_to_async.hpp>
#include <bothworlds/worker_pool.hpp>

#include <functional>
#include <utility>

namespace bothworlds::testing {

/// The options of a thread-sensitive call.
inline constexpr sync_options thread_sensitive{.thread_sensitive = true};

/// A thread-sensitive call that gives the kernel's id of the thread that ran it.
inline awaitable<long> sensitive_thread() {
  auto call = sync_to_async(kernel_thread_id, thread_sensitive);
  co_return co_await call();
}

/// 42, by way of a worker and of the loop.
inline awaitable<int> answer() {
  auto call = sync_to_async([] { return 42; });
  co_await yield_to_loop();
  co_return co_await call();
}

/// 42, by way of a thread-sensitive call.
inline awaitable<int> sensitive_answer() {
  auto call = sync_to_async([] { return 42; }, thread_sensitive);
  co_return co_await call();
}

/// Awaits `call` and gives the code of the library's error that it ends with.
template <class Call>
awaitable<boost::system::error_code> outcome(Call& call) {
  boost::system::error_code code;
  try {
    co_await call();
  } catch (const error& e) {
    code = e.code();
  }
  co_return code;
}

/// True if the task ended with operation_aborted; what else it threw is thrown.
inline awaitable<bool> ends_cancelled(const child_task& task) {
  try {
    co_await task.join();
  } catch (const boost::system::system_error& e) {
    if (!is_cancellation(e)) throw;
    co_return true;
  }
  co_return false;
}

inline awaitable<void> wait_for_ever() {
  auto executor = co_await asio::this_coro::executor;
  loop_event never(executor);
  co_await never.wait();
}

/// A pool of one worker that is busy until it is released.
class occupied_pool {
public:
  explicit occupied_pool(const asio::any_io_executor& loop)
      : occupy_(sync_to_async(std::ref(body_), {.pool = &pool_})),
        occupant_(loop, [this] { return occupy_(); }) {}

  awaitable<void> wait_until_busy() {
    co_await yield_to_loop();
    body_.running.wait();
  }
  awaitable<void> release() {
    body_.released.open();
    co_await occupant_.join();
  }
  worker_pool& pool() { return pool_; }

private:
  struct body {
    gate running, released;
    void operator()() {
      running.open();
      released.wait();
    }
  };
  body body_;
  worker_pool pool_{worker_pool_options{.soft_limit = 1, .hard_limit = 1}};
  decltype(sync_to_async(std::declval<std::reference_wrapper<body>>())) occupy_;
  child_task occupant_;
};

}  // namespace bothworlds::testing
