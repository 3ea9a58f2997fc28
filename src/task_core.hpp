// SPDX-License-Identifier: BSL-1.0
//
// A task is a call of the kind that async_to_sync makes, for which nobody blocks. It runs below the
// coroutine that started it, on the same loop, on a resident of its own where there is one.
//
// Who touches what: failure_ is written by the task's executor before ended_ is set, and read after
// that; seen_, result_taken_ and cancelled_ are atomic. A scope's fields are under its mutex. Order
// of locks: the registry's, a scope's, then what queueing a cancellation takes.
//
// A scope is left when its members have ended and nobody holds it open: the coroutine that opened
// it holds it until it has started all it wants to start. A member that has not ended owns the
// scope; the scope only lists its members.
#pragma once

#include "adaptive_mutex.hpp"
#include "event.hpp"
#include "process_mark.hpp"

#include <bothworlds/detail/async_call.hpp>
#include <bothworlds/detail/task_core.hpp>

#include <mutex>
#include <string>

namespace bothworlds::detail {

class chain_node;

class task_core final : public ref_counted {
public:
  enum class role : unsigned char {
    task,    // has a handle: keeps its result, and reports a failure that nobody has seen
    member,  // of a gather, or the body of a group: its scope's coroutine takes the result
  };

  task_core(ref_ptr<async_call> call, ref_ptr<task_scope> scope, role what) noexcept
      : call_(std::move(call)), scope_(std::move(scope)), role_(what) {}

  /// Starts it below a coroutine with `executor`. `tasks` is the scope that it runs in. The caller
  /// keeps this, and the scope that it belongs to, meanwhile.
  void start(const asio::any_io_executor& executor, context_snapshot::pointer values,
             ref_ptr<task_scope> tasks,
             std::chrono::steady_clock::time_point deadline =
                 std::chrono::steady_clock::time_point::max());

  void cancel() noexcept {
    cancelled_.store(true, std::memory_order_relaxed);
    call_->request_cancel(asio::cancellation_type::terminal);
  }
  event& ended() noexcept { return ended_; }
  const event& ended() const noexcept { return ended_; }
  async_call& call() const noexcept { return *call_; }
  /// After its end; null: none.
  const std::exception_ptr& failure() const noexcept { return failure_; }
  /// It was cut short because somebody wanted it to be.
  bool was_cancelled() const noexcept;
  void seen() noexcept { seen_.store(true, std::memory_order_relaxed); }
  bool take_result() noexcept { return !result_taken_.exchange(true, std::memory_order_relaxed); }

private:
  friend class task_scope;
  friend class task_registry;

  ~task_core() override;
  void has_ended() noexcept;

  const ref_ptr<async_call> call_;
  ref_ptr<task_scope> scope_;  // until it has ended; null: none
  const role role_;
  std::atomic<bool> cancelled_{false};
  std::atomic<bool> seen_{false};
  std::atomic<bool> result_taken_{false};
  std::exception_ptr failure_;
  event ended_;
  boost::intrusive::list_member_hook<> scope_hook_;  // the scope's mutex
  bool over_ = false;  // likewise: it may end before it stands in the list
  boost::intrusive::list_member_hook<> registry_hook_;  // the registry's; it belongs to no scope
  const process_mark process_;
};

class task_scope final : public blocked_call {
public:
  enum class kind : unsigned char {
    group,  // the first error cancels the others and is thrown
    call,   // of run or async_to_sync: an error belongs to whoever joins the task
  };

  /// Throws std::bad_alloc.
  task_scope(kind what, std::source_location where);

  /// Where members start that are added by spawn_into.
  void open(asio::any_io_executor executor);
  asio::any_io_executor executor() const;

  /// Counts it, before it is started. Throws misuse_error, no_context, when the scope has been
  /// left.
  void enter(task_core& member);
  /// From now on it is cancelled with the others, and reports list it.
  void member_started(task_core& member) noexcept;
  /// The caller keeps this.
  void member_ended(task_core& member) noexcept;
  /// A member could not be started, or not be waited for: counts as a member's failure.
  void fail(std::exception_ptr why) noexcept;
  void release() noexcept;

  /// Any thread.
  void cancel() noexcept;
  void request_cancel(asio::cancellation_type type) noexcept override;

  /// Its members, one line each.
  std::string describe_members() const;

  bool is_left() const noexcept { return left_.is_set(); }
  /// Waits until it is left; cancellations go to the members.
  asio::awaitable<void> left();
  /// It was cancelled by cancel(), not by a cancellation of whoever waits for it.
  bool cancelled_from_inside() const noexcept;
  /// Throws the first error and keeps the others where errors_of finds them.
  void rethrow_first();

private:
  friend class task_registry;
  using members = boost::intrusive::list<
      task_core,
      boost::intrusive::member_hook<task_core, boost::intrusive::list_member_hook<>,
                                    &task_core::scope_hook_>,
      boost::intrusive::constant_time_size<false>>;

  ~task_scope() override;
  void cancel_members() noexcept;                           // mutex_
  void take_error(const std::exception_ptr& why) noexcept;  // mutex_
  void one_less(std::unique_lock<adaptive_mutex>& lock) noexcept;

  const kind kind_;
  const std::source_location where_;
  mutable adaptive_mutex mutex_;
  boost::intrusive::list_member_hook<> registry_hook_;  // the registry's
  const process_mark process_;
  members members_;
  asio::any_io_executor executor_;          // empty: not opened, or left
  std::size_t pending_ = 1;                 // members, and who holds it open
  std::size_t entered_ = 0;                 // members that there ever were
  std::vector<std::exception_ptr> errors_;  // in the order of their coming
  bool cancelled_ = false;
  bool cancelled_from_outside_ = false;
  event left_;
};

/// Waits until `started`, which is one of no scope, has ended; cancellations go to it. To be made
/// before it is started: where there is no memory to wait with it is cancelled, waited for all the
/// same, and then std::bad_alloc is thrown.
asio::awaitable<void> end_of(ref_ptr<task_core> started);

/// All tasks of the process that have not ended, one line each.
std::string describe_live_tasks();

}  // namespace bothworlds::detail
