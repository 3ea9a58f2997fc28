// SPDX-License-Identifier: BSL-1.0
//
// The only place that knows Asio's detail namespace. Checked against Boost 1.81; what it uses of
// coroutine frames is the same in Asio 1.38.2, of July 2026.
#pragma once

#include <bothworlds/config.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/execution_context.hpp>

#include <coroutine>
#include <cstddef>
#include <exception>
#include <utility>

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

  /// What innermost_running_loop() gives inside a running_loop_scope with this.
  const void* marker() const noexcept { return storage_; }

private:
  friend class running_loop_scope;
  alignas(std::max_align_t) std::byte storage_[160];
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

/// The promise of what Asio awaits as a coroutine that returns awaitable<R>, while it is on top of
/// its coroutine's stack.
template <class R>
class operation_promise
    : public boost::asio::detail::awaitable_frame<R, boost::asio::any_io_executor> {
public:
  // Written out, or it would be made by filling it with zeros first, room for the result and all.
  operation_promise() noexcept {}

  boost::asio::any_io_executor executor() const { return this->attached_thread_->get_executor(); }
  boost::asio::cancellation_slot slot() const noexcept {
    return this->attached_thread_->get_cancellation_slot();
  }
  /// It waits: from now on nothing here may be touched but by who goes on with the thread.
  coroutine_thread suspend() noexcept { return std::move(*this->detach_thread()); }
  void fails(std::exception_ptr why) noexcept { this->pending_exception_ = std::move(why); }
  /// It has ended; who awaits it is resumed next.
  void ends() noexcept { this->pop_frame(); }
};

/// That of what is at the bottom of such a stack, in place of what asio::co_spawn puts there.
using bottom_promise = operation_promise<boost::asio::detail::awaitable_thread_entry_point>;

/// The stack that begins with `bottom`, which has just been created; it is suspended. Cancellations
/// come from `slot`, once the state has been reset.
inline coroutine_thread thread_on(bottom_promise& bottom,
                                  const boost::asio::any_io_executor& executor,
                                  boost::asio::cancellation_slot slot) {
  return {bottom.get_return_object(), executor, slot, boost::asio::cancellation_state()};
}

/// For the await_suspend() of an awaitable, which takes a handle but wants nothing of it but the base
/// that all frames have.
inline auto as_awaiting(coroutine_frame& frame) noexcept {
  using promise = boost::asio::detail::awaitable_frame<void, boost::asio::any_io_executor>;
  return std::coroutine_handle<promise>::from_promise(static_cast<promise&>(frame));
}

/// Goes on with a coroutine that has waited.
struct coroutine_resumption {
  coroutine_thread thread;
  void operator()() { thread.launch(); }
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
