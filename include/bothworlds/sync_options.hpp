// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <boost/asio/any_io_executor.hpp>

#include <functional>

namespace bothworlds {

namespace asio = boost::asio;

class worker_pool;
class capacity_limiter;

/// What becomes of a running callable whose awaiting operation is cancelled. Queued callables never
/// run after a cancellation, whatever the policy. A callable that takes a `std::stop_token` first
/// is asked to stop, always.
enum class cancel_policy : unsigned char {
  wait,       ///< stay suspended until the callable returns; deliver its result, or its exception
  abandon,    ///< complete at once with operation_aborted; the callable runs on, counted and listed
  interrupt,  ///< boost::thread::interrupt() the worker, call `interruptor`, then wait
};

/// Options of sync_to_async. Trivially destructible on purpose: it may stand inside a co_await
/// expression on g++ 12. What the pointers name is copied by sync_to_async and need not outlive the
/// call of it; only the pool itself must outlive the calls made with it, and an executor's context
/// likewise.
struct sync_options {
  bool thread_sensitive = false;  ///< run on the chain's own sync thread, one call at a time
  worker_pool* pool = nullptr;    ///< null: default_worker_pool()
  const asio::any_io_executor* executor = nullptr;  ///< set: run there instead of on a pool
  capacity_limiter* limiter =
      nullptr;  ///< set: the callable runs, wherever it does, under one of its tokens
  cancel_policy on_cancel = cancel_policy::wait;
  /// With cancel_policy::interrupt: called once, from the thread that emits the cancellation, while
  /// the callable runs, never after; for example sqlite3_interrupt. It must not block and must not
  /// throw.
  const std::function<void()>* interruptor = nullptr;
  const char* name = nullptr;  ///< shown in reports; null: file:line of the wrap
};

}  // namespace bothworlds
