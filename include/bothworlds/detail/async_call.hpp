// SPDX-License-Identifier: BSL-1.0
//
// One call of async_to_sync, without its types: a coroutine on some loop, and a thread that is
// blocked, or a coroutine that is suspended, until it has ended.
//
// Who owns what:
//   - the one who waits and the coroutine each own a reference, so that either may go first. With
//     `done` the coroutine's goes to the thread that waits: that is the last thing that the
//     coroutine's executor does to the call. A thread leaves early (outcome_ goes to `given_up`) only
//     when the loop is stopped or gone, or the call, not begun yet, has timed out or is refused; then
//     it never looks back, and the executor lets go of that reference itself, as it does where no
//     thread waits. A root call on the thread's own loop is begun at once, so nobody can refuse it,
//     and belongs to that thread alone (waiter_outlives_);
//   - the callable, its arguments, the result and the values that come back belong to the coroutine
//     until outcome_ says `done`, then to the one who waits;
//   - signal_, timed_out_ and was_cancelled_ belong to the executor that the coroutine runs on.
#pragma once

#include <bothworlds/async_options.hpp>
#include <bothworlds/detail/asio_internals.hpp>
#include <bothworlds/detail/blocked_call.hpp>
#include <bothworlds/detail/continuation.hpp>
#include <bothworlds/detail/loop_op.hpp>
#include <bothworlds/detail/ref_counted.hpp>
#include <bothworlds/detail/value_cell.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/cancellation_type.hpp>

#include <atomic>
#include <chrono>
#include <exception>
#include <optional>
#include <source_location>

namespace bothworlds {
class error;
}

namespace bothworlds::detail {

namespace asio = boost::asio;

class blocked_thread;
class call_node;
class chain_node;
struct chain_place;
class crossing;
class lane;
class loop;
class task_scope;
class turning_scope;
struct thread_state;

BOTHWORLDS_API void intrusive_ptr_add_ref(const task_scope* scope) noexcept;
BOTHWORLDS_API void intrusive_ptr_release(const task_scope* scope) noexcept;

/// Throws misuse_error, running_loop, when the calling thread may not block. `what` is the function
/// that was called, `name` what reports call this call of it; null: nothing.
BOTHWORLDS_API void check_may_block(const char* what, std::source_location where, const char* name);

/// options.name, copied for the life of the process; null if there is none.
BOTHWORLDS_API const char* name_of(const async_options& options);

class BOTHWORLDS_API async_call : public blocked_call {
public:
  explicit async_call(std::source_location where) noexcept;

  /// Runs the coroutine on the loop that the calling thread's situation asks for ("Where code
  /// runs"), and blocks until it has ended. Throws what keeps it from being run; its own failure is
  /// in rethrow_failure(). The caller owns a reference meanwhile. `elsewhere`: on this loop, which
  /// another thread drives, whatever the situation.
  void block(const async_options& options, loop* elsewhere = nullptr);

  /// Runs the coroutine below a coroutine with `executor`, on its loop; `ended` is called on it in
  /// the end. Any thread, while what has that executor waits. Throws std::bad_alloc, and
  /// loop_stopped; then nothing was started.
  void start_child(const asio::any_io_executor& executor, context_snapshot::pointer values,
                   ref_ptr<task_scope> tasks, std::chrono::steady_clock::time_point deadline,
                   continuation ended);
  /// Somebody awaits it, or will in vain: it was not made and forgotten.
  void awaited() noexcept { awaited_ = true; }

  /// What the coroutine threw; null: nothing. After its end.
  std::exception_ptr failure() const noexcept { return failure_; }
  void forget_failure() noexcept { failure_ = nullptr; }
  /// What the coroutine has changed. After its end, once.
  value_cell take_values() noexcept { return values_.end(); }
  /// Destroys the callable and its arguments. After its end.
  virtual void discard() noexcept = 0;

  /// Any thread. The coroutine's cancellation signal is emitted on its own executor, never from
  /// here.
  void request_cancel(asio::cancellation_type type) noexcept override;

  /// The calling thread is about to sleep until this has ended; in a loop, if `in` is not null. For
  /// the wait-for graph.
  void falls_asleep(const loop* in) noexcept;

  std::source_location where() const noexcept { return where_; }
  const char* name() const noexcept { return name_; }

  /// What runs the call, once: calls the callable, awaits what it returns, stores its result.
  /// Throws what the callable and its coroutine throw.
  asio::awaitable<void> run();
  /// The three steps of that, for a coroutine that makes them itself. Calls the callable; throws
  /// what that throws.
  virtual void invoke() = 0;
  /// What it has returned goes on in place of `host`, which has just been suspended; `host` is
  /// resumed at its end.
  virtual void await_from(coroutine_frame& host) = 0;
  /// After that: stores the result, or throws.
  virtual void store() = 0;
  /// The host has been destroyed: what it awaited goes with it.
  virtual void drop_operation() noexcept = 0;
  /// When it is to be cancelled, and that this is now; on its executor.
  std::chrono::steady_clock::time_point deadline() const noexcept { return deadline_; }
  void time_is_over();
  /// Its loop is to stop: cancels it, and an operation_aborted that comes of that is
  /// errc::loop_stopped. Any thread.
  void cut() noexcept;

protected:
  ~async_call() override;

  /// The coroutine and its frame are gone. What still holds the call, such as a queued
  /// cancellation, does not use it.
  bool has_ended() const noexcept {
    return outcome_.load(std::memory_order_acquire) == outcome::done;
  }

  /// Throws what the coroutine threw; timed_out instead of an operation_aborted that the timeout
  /// caused.
  void rethrow_failure();

private:
  friend class coroutine_scope;
  friend class loop;
  friend class portal_core;
  friend class portal_task;
  friend class resident;
  friend class sensitive_scope;
  friend struct coroutine_access;
  friend class stall_finder;
  friend class wait_graph;

  enum class outcome : unsigned char {
    pending,
    slept_on,  // the same, and the thread that waits for it sleeps: who ends it has to wake that
    done,
    given_up,
  };

  /// Who was first decides whether the coroutine is ever called.
  enum class start : unsigned char {
    open,
    begun,    // the executor: the coroutine is called
    late,     // the one who waits: its patience had run out
    refused,  // the wait-for graph: the wait was part of a deadlock
  };

  class start_op final : public loop_op {
  public:
    explicit start_op(async_call& call) noexcept : call_(call) {}
    void take_turn(bool deliver) noexcept override { call_.started(deliver); }

  private:
    async_call& call_;
  };
  class cancel_op final : public loop_op {
  public:
    explicit cancel_op(async_call& call) noexcept : call_(call) {}
    void take_turn(bool deliver) noexcept override { call_.cancelled(deliver); }

  private:
    async_call& call_;
  };

  class blocking_scope;

  // The one who waits.
  void block_on_own_loop(thread_state& thread, const async_options& options, crossing* caller);
  void block_on(loop& target, thread_state& thread, const async_options& options, crossing* caller);
  void block_on_loop_of(crossing& caller, thread_state& thread, const async_options& options);
  void set_loop(ref_ptr<loop> target) noexcept;
  void start_on(const ref_ptr<call_node>& node);
  void wait(thread_state& thread, loop* owned, std::optional<turning_scope>* turning = nullptr);
  static void leave(loop& home) noexcept;
  void park(lane& where, blocked_thread& blocked);
  bool is_of_parent_process() const noexcept;
  bool pending() const noexcept {
    return outcome_.load(std::memory_order_seq_cst) <= outcome::slept_on;
  }
  bool changes_outcome(outcome from, outcome to) noexcept {
    return outcome_.compare_exchange_strong(from, to, std::memory_order_seq_cst);
  }
  void give_up(std::exception_ptr reason) noexcept;
  error timeout_error() const;

  // The coroutine's executor.
  bool begin(const chain_node& on, asio::cancellation_signal& signal) noexcept;
  void fail(std::exception_ptr why) noexcept { failure_ = std::move(why); }
  /// With the coroutine's reference, if there is one. Nothing of the call may be touched after it.
  void finish(value_cell&& values) noexcept;
  bool tell_waiter() noexcept;
  bool claim(start how) noexcept {
    start expected = start::open;
    return start_.compare_exchange_strong(expected, how, std::memory_order_acq_rel);
  }
  /// Any thread. False: it has begun, or somebody else has ended it.
  bool refuse(std::exception_ptr why) noexcept;
  void emit();
  /// Where it stands. While who waits cannot leave, or by that thread itself: what is above lives
  /// for as long.
  chain_place take_place() noexcept;
  /// For value_cell::take().
  value_cell&& hand_values_on() noexcept {
    if (!values_.is_open()) values_.begin(nullptr);  // made where there were none
    return std::move(values_);
  }
  // Of an operation in the loop's queue, with its reference.
  void started(bool deliver) noexcept;
  void cancelled(bool deliver) noexcept;

  // In the order of who touches them: a cache line that one thread writes while another one wants it
  // is what a call costs between two CPUs. First what the executor needs and writes, then what is
  // rare, then what is the waiting thread's alone; it looks at outcome_ all the time.
  std::atomic<start> start_{start::open};
  std::atomic<bool> cancel_queued_{
      false};  // any thread: cancel_op_, or a function like it, is on its way
  bool timed_out_ = false;
  bool was_cancelled_ = false;
  start_op start_op_;
  std::atomic<unsigned> cancel_types_{0};  // any thread adds; the executor takes
  // These, and where "constant" stands: set before the call is published.
  bool hosts_tasks_ = false;      // may make a scope for tasks, which it then waits for
  bool waiter_outlives_ = false;  // the waiting thread stays until the coroutine has gone
  bool awaited_ = false;
  asio::cancellation_signal* signal_ = nullptr;  // null: not begun yet, or ended
  std::atomic<const chain_node*> runs_on_{
      nullptr};  // the executor, once it has begun; only while it is waited for is it sure to live
  value_cell values_;            // of the one who waits; when it has ended, the coroutine's
  ref_ptr<chain_node> made_by_;  // of the coroutine that made the call; null: blocking code has
  const crossing* caller_ = nullptr;  // constant; the callable that made it; null: it has none
  lane* waiter_ = nullptr;            // constant; null: a coroutine waits
  loop* loop_ = nullptr;              // constant; null: a foreign loop, that of node_
  std::exception_ptr failure_;        // the coroutine, then the one who waits
  const std::source_location where_;
  ref_ptr<task_scope>
      tasks_;  // where its coroutine's tasks belong; null: nowhere, or see hosts_tasks_
  std::chrono::steady_clock::time_point deadline_ =
      std::chrono::steady_clock::time_point::max();  // constant

  cancel_op cancel_op_;
  asio::cancellation_signal own_signal_;  // of a fresh coroutine; the executor
  ref_ptr<call_node> node_;               // constant; null: the loop's resident has it
  continuation then_;  // no thread waits in block(): called on the executor; if refused, anywhere
  std::exception_ptr refusal_;    // of who refuses it, before start_ says so; then of who waits
  std::atomic<bool> cut_{false};  // any thread sets, before it cancels; who waits reads, afterwards

  std::atomic<outcome> outcome_{outcome::pending};
  // The blocked thread's.
  bool stopped_before_ = false;
  bool may_be_stopped_ = false;  // it was given a stop token
  const char* name_ = nullptr;   // interned
  ref_ptr<loop> kept_loop_;      // loop_; null: waiter_outlives_
  ref_ptr<lane> kept_waiter_;    // waiter_; null: waiter_outlives_
  std::exception_ptr gave_up_because_;
  std::chrono::steady_clock::time_point patience_ = std::chrono::steady_clock::time_point::max();
  std::int64_t asleep_since_ = 0;  // when it first slept; nanoseconds of the coarse clock
};

}  // namespace bothworlds::detail
