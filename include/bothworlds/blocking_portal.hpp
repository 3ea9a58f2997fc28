// SPDX-License-Identifier: BSL-1.0
//
// From sync to async, into a loop that is somewhere else: a loop on a thread of its own.
#pragma once

#include <bothworlds/async_options.hpp>
#include <bothworlds/detail/portal_core.hpp>
#include <bothworlds/traits.hpp>

#include <chrono>
#include <memory>
#include <source_location>
#include <type_traits>
#include <utility>

namespace bothworlds {

/// What becomes of the calls that run when a portal stops.
enum class stop_policy {
  cancel,  ///< they are cancelled; the loop goes on until they have unwound, see portal_options
  wait,    ///< they run to their end
};

struct portal_options {
  /// How long stop_policy::cancel lets cancelled calls unwind. What has not ended by then is
  /// destroyed where it is suspended, and who waits for it gets errc::loop_stopped.
  std::chrono::steady_clock::duration patience = std::chrono::seconds(10);
};

/// A call that was started in a portal. Move-only; for one thread at a time.
///
/// Dropping it leaves the call alone; an error that the call then ends with, other than a
/// cancellation, is reported on stderr.
template <class R>
class [[nodiscard("dropped, it lets the call run with nobody to get its result")]] portal_future {
public:
  portal_future(portal_future&& other) noexcept = default;
  portal_future& operator=(portal_future&& other) noexcept {
    std::swap(task_, other.task_);
    std::swap(take_, other.take_);
    return *this;
  }
  ~portal_future() {
    if (task_) detail::drop(*task_);
  }

  /// Blocks until the call has ended; returns its result, once, or throws what it has thrown.
  /// Throws misuse_error: running_loop, where it would have to wait on a thread that runs a loop;
  /// invalid_options, when there is no call (any more). Cancelling the operation that awaits the
  /// surrounding callable cancels the call.
  R get(std::source_location where = std::source_location::current()) {
    if (!task_) detail::refuse_empty_future(where);
    detail::wait_for_end(*task_, no_timeout, "portal_future::get", where);
    const auto task = std::move(task_);
    return take_(detail::retrieve(*task));
  }

  /// Blocks for `limit` at most. True: the call has ended, and get() does not block.
  bool wait_for(std::chrono::steady_clock::duration limit,
                std::source_location where = std::source_location::current()) {
    if (!task_) detail::refuse_empty_future(where);
    return detail::wait_for_end(*task_, limit, "portal_future::wait_for", where);
  }

  /// Asks the call's coroutine to cancel (terminal). Any thread; returns at once.
  void cancel() {
    if (task_) detail::cancel(*task_);
  }
  bool done() const { return task_ && detail::has_ended(*task_); }

private:
  friend class blocking_portal;
  using taker = R (*)(detail::async_call&);

  portal_future(detail::ref_ptr<detail::portal_task> task, taker take) noexcept
      : task_(std::move(task)), take_(take) {}

  detail::ref_ptr<detail::portal_task> task_;  // null: moved from, or got
  taker take_;
};

/// A loop on a thread of its own, for sync code that has async things to do: made before its
/// constructor returns, ready for calls from any number of threads.
///
/// A callable given to it may be async, then it runs as a coroutine on the portal's loop; or
/// blocking, then it runs on the loop's thread, and everything else on that loop waits meanwhile.
///
/// Threads     every member, from any thread. The destructor is stop(stop_policy::cancel), and
///             waits: destroy a portal where blocking is fine. On the portal's own loop it does not
///             wait.
/// Not for     calls from a coroutine: co_await instead. Not needed for one call now and then:
///             async_to_sync drives a loop on the calling thread, and starts none.
class BOTHWORLDS_API blocking_portal {
public:
  /// Throws a system error if no thread can be started.
  explicit blocking_portal(portal_options options = {});
  ~blocking_portal();
  blocking_portal(const blocking_portal&) = delete;
  blocking_portal& operator=(const blocking_portal&) = delete;

  /// The portal of everybody who asks for it while somebody holds it: made for the first, stopped
  /// (cancel) when the last lets go.
  static std::shared_ptr<blocking_portal> shared();

  /// Runs `f()` on the portal's loop, blocks until it has ended, returns its result. Meanwhile this
  /// thread runs what its chain needs to have run here, as in async_to_sync.
  ///
  /// Throws      what `f` throws. misuse_error, running_loop, on a thread that runs a loop, the
  ///             portal's own or another; errc::loop_stopped once the portal has been told to stop,
  ///             and where its stopping cuts the call short; errc::forked_child. Of `options`:
  ///             timed_out, operation_aborted, as async_to_sync; force_new_loop has no meaning.
  /// Cancellation  of the operation that awaits the surrounding callable reaches the call.
  template <class F>
  auto call(F f, async_options options,
            std::source_location where = std::source_location::current()) {
    static_assert(std::is_invocable_v<F>,
                  "blocking_portal::call: give it a callable without parameters");
    options.name = detail::name_of(options);
    detail::check_may_block("blocking_portal::call", where, options.name);
    using state = detail::portal_call<F>;
    const detail::ref_ptr<state> made(new state(where, std::move(f)));
    detail::block_in_portal(*core_, *made, options);
    return made->take();
  }
  template <class F>
  auto call(F f, std::source_location where = std::source_location::current()) {
    return call(std::move(f), async_options{}, where);
  }

  /// Starts `f()` on the portal's loop and returns at once; also from a coroutine. Throws
  /// errc::loop_stopped and forked_child.
  template <class F>
  auto start(F f, std::source_location where = std::source_location::current()) {
    static_assert(std::is_invocable_v<F>,
                  "blocking_portal::start: give it a callable without parameters");
    using state = detail::portal_call<F>;
    using result = typename state::result;
    const detail::ref_ptr<detail::async_call> made(new state(where, std::move(f)));
    return portal_future<result>(
        detail::start_in_portal(*core_, made),
        [](detail::async_call& call) -> result { return static_cast<state&>(call).take(); });
  }

  /// Takes no more calls, ends those that run as `policy` says, then ends the loop and its thread.
  /// Blocks until all that has happened; a second call may hurry a first one that waits. What the
  /// calls have left behind on the loop is destroyed. Throws misuse_error, running_loop, on a
  /// thread that runs a loop; misuse_error, would_deadlock, in a callable that a coroutine of this
  /// loop awaits.
  void stop(stop_policy policy = stop_policy::cancel,
            std::source_location where = std::source_location::current());

private:
  const detail::ref_ptr<detail::portal_core> core_;
};

}  // namespace bothworlds
