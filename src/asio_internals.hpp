// SPDX-License-Identifier: BSL-1.0
//
// The only place that knows Asio's detail namespace. Checked against Boost 1.81; what it uses of
// coroutine frames is the same in Asio's sources of December 2025.
#pragma once

#include <bothworlds/detail/async_call.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/execution_context.hpp>

#include <cstddef>
#include <optional>

namespace bothworlds::detail {

/// What identifies the innermost Asio loop, or loop of ours, that the calling thread is inside of;
/// null: none.
const void* innermost_running_loop() noexcept;

/// Memory in which Asio recycles coroutine frames and operations while a thread runs one of our
/// loops: a few of each kind. It lives as long as the loop, or a node on it, so that a warm call
/// allocates nothing; the driver owns it.
class loop_memory {
public:
  loop_memory();
  ~loop_memory();
  loop_memory(const loop_memory&) = delete;
  loop_memory& operator=(const loop_memory&) = delete;

private:
  friend class running_loop_scope;
  alignas(std::max_align_t) std::byte storage_[256];
};

using coroutine_frame = boost::asio::detail::awaitable_frame_base<boost::asio::any_io_executor>;
using coroutine_thread = boost::asio::detail::awaitable_thread<boost::asio::any_io_executor>;

/// `co_await once_suspended{f}`: when the coroutine has been suspended, f is called with its frame.
/// It must not throw.
template <class F>
struct once_suspended {
  F f;
  coroutine_thread* operator()(coroutine_frame* frame) {
    f(*frame);
    return nullptr;
  }
};
template <class F>
once_suspended(F) -> once_suspended<F>;

/// For once_suspended, in a coroutine that returns awaitable<void>: it goes on at the end of what
/// `call` has invoked.
struct awaiting_call {
  async_call* call;
  void operator()(coroutine_frame& frame) const {
    using promise = std::coroutine_traits<asio::awaitable<void>>::promise_type;
    call->await_from(host_handle::from_promise(static_cast<promise&>(frame)));
  }
};

/// A coroutine that waits for nothing but its resumption. Owns it, with all that awaits it.
class parked_coroutine {
public:
  /// Right after it was suspended.
  void take(coroutine_frame& frame) noexcept { thread_.emplace(std::move(*frame.detach_thread())); }
  /// Runs it up to its next suspension. Throws what leaves it.
  void resume() {
    coroutine_thread resumed(std::move(*thread_));
    thread_.reset();
    resumed.launch();
  }

private:
  std::optional<coroutine_thread> thread_;
};

/// While it lives, Asio sees the calling thread as one that runs a loop. Strictly nested, on one
/// thread.
class running_loop_scope {
public:
  /// Null: it changes nothing.
  explicit running_loop_scope(loop_memory* memory) noexcept : entered_(memory != nullptr) {
    if (memory) enter(*memory);
  }
  ~running_loop_scope() {
    if (entered_) leave();
  }
  running_loop_scope(const running_loop_scope&) = delete;
  running_loop_scope& operator=(const running_loop_scope&) = delete;

private:
  BOTHWORLDS_NOINLINE void enter(loop_memory& memory) noexcept;
  BOTHWORLDS_NOINLINE void leave() noexcept;

  const bool entered_;
  alignas(std::max_align_t) std::byte storage_[32];
};

/// The scheduler of an io_context or thread_pool, so that work can be counted and a stop be seen
/// through a type-erased executor. Empty for any other execution context. Valid as long as the
/// context is.
class scheduler_ref {
public:
  scheduler_ref() = default;
  explicit scheduler_ref(boost::asio::execution_context& context);

  explicit operator bool() const noexcept { return scheduler_ != nullptr; }
  bool stopped() const;
  void work_started() const noexcept;
  void work_finished() const noexcept;

private:
  void* scheduler_ = nullptr;
};

}  // namespace bothworlds::detail
