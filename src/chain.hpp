// SPDX-License-Identifier: BSL-1.0
//
// The chain: what tells a coroutine, and everything it leads to, from which blocked threads it
// hangs.
//
// Asio has no coroutine-local storage, so the executor carries it. A chain_executor wraps the
// executor of a loop and holds one node; whoever runs a function through it finds the node in a
// thread-local while the function runs, and coroutines that take `this_coro::executor` pass it on.
//
// A node's place is written before its call starts and only read until nobody but its resident
// holds the node any more; open_ is the exception: the loop sets and clears it. Its values belong
// to the executor that it carries.
#pragma once

#include "context_values.hpp"
#include "foreign_context.hpp"
#include "lane.hpp"
#include "limiter_core.hpp"

#include <bothworlds/detail/asio_internals.hpp>
#include <bothworlds/detail/continuation.hpp>
#include <bothworlds/detail/task_core.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/execution.hpp>

#include <memory>

namespace bothworlds::detail {

namespace asio = boost::asio;

class loop;
class suspension;

/// Which thread a call blocks, and which one is its chain's sync thread.
struct chain_place {
  ref_ptr<lane>
      blocked;  // the thread that waits for this call, or for the nearest one above that has
                // one; null: none (coroutines wait)
  ref_ptr<lane> sync_lane;  // where thread-sensitive calls go; null: the process's lane
  // The nearest frame, from here upwards, that blocks the thread of sync_lane: through it that lane
  // can be reached although it is busy. Null: there is none, or it is this very node (see
  // blocks_sync_lane).
  ref_ptr<class chain_node> lane_frame;
  // The nearest call above this one for which a thread waits, and that had not ended when this began;
  // null: none.
  ref_ptr<class chain_node> above;
  ref_ptr<limiter_token>
      token;  // the innermost one of the calls above, held or given back; null: none
  const async_call* call =
      nullptr;  // for which `blocked` waits, to be compared only; null: another, or not known
  std::uint32_t epoch = 0;     // of `blocked`
  bool is_waited_for = false;  // by `blocked`: this very call, not one above it
  bool sync_root = false;      // the chain started on a plain thread, which owns sync_lane
  bool in_context = false;     // inside with_thread_sensitive_context
  bool blocks_sync_lane = false;

  /// Of a call that a coroutine of `node` makes, or a callable that it awaits.
  static chain_place below(ref_ptr<class chain_node> node);
  /// What `above` is, for what is below `node`.
  static ref_ptr<class chain_node> nearest_waited_for(ref_ptr<class chain_node> node) noexcept;
  /// A thread waits for `for_call`; it is the sync thread of its chain if no call is above this one.
  void is_blocked_by(lane& thread, bool root, const async_call* for_call = nullptr);
  /// Of a call below no other, which its loop's own thread waits for: see enter_root().
  bool is_bare_root() const noexcept { return is_waited_for && !call; }
  /// It leads to other nodes, and keeps them.
  bool hangs() const noexcept { return above || lane_frame || token; }
};

class chain_node : public ref_counted {
public:
  /// On one of our loops. `memory`: what its coroutines are made of is recycled for this node alone,
  /// so that nested calls, each with a node, need nothing from the heap.
  explicit chain_node(ref_ptr<loop> own, std::unique_ptr<loop_memory> memory = nullptr);
  /// On somebody else's executor. Inside context->with_context().
  chain_node(const ref_ptr<foreign_context>& context, const asio::any_io_executor& inner);

  const ref_ptr<loop>& own_loop() const noexcept { return loop_; }
  /// Not on one of our loops.
  const ref_ptr<foreign_context>& foreign() const noexcept { return inner_->context(); }
  /// Null: that of the loop. The driver, like the loop's.
  loop_memory* memory() const noexcept { return memory_.get(); }
  /// Of a foreign context, inside with_context() or on its own threads.
  const asio::any_io_executor& inner() const noexcept { return inner_->may_run_now(); }
  asio::execution_context& context() const noexcept;

  const chain_place& place() const noexcept { return place_; }
  /// A call begins, with its caller's values.
  /// `tasks` is where its tasks belong; null: nowhere, unless it `hosts_tasks`.
  void enter(chain_place place, value_cell&& values, ref_ptr<task_scope> tasks,
             bool hosts_tasks) noexcept {
    place_ = std::move(place);
    begin(std::move(values), std::move(tasks), hosts_tasks);
  }
  /// The same for a call below no other, for which `thread` waits. A resident's calls are mostly of
  /// this kind, one after another, of one thread: their place is the same.
  void enter_root(lane& thread, value_cell&& values, bool hosts_tasks) {
    if (!place_.is_bare_root() || place_.blocked.get() != &thread) {
      place_ = {};
      place_.is_blocked_by(thread, true);
    }
    place_.epoch = thread.epoch();
    begin(std::move(values), nullptr, hosts_tasks);
  }
  /// It has ended; gives its values, for value_cell::take().
  value_cell&& leave() noexcept {
    open_.store(false, std::memory_order_release);
    tasks_.reset();
    hosts_tasks_ = false;
    return std::move(values_);
  }
  /// Of the call: whoever runs in it changes them.
  value_cell& values() const noexcept { return values_; }
  const ref_ptr<task_scope>& tasks() const noexcept { return tasks_; }
  /// The call waits for a scope that is set for it.
  bool hosts_tasks() const noexcept { return hosts_tasks_; }
  void set_tasks(ref_ptr<task_scope> tasks) noexcept { tasks_ = std::move(tasks); }
  /// How many executors say that something is under way: two for each coroutine, one for each
  /// operation of Asio's.
  std::uint32_t unfinished() const noexcept { return tracked_.load(std::memory_order_relaxed); }
  /// Lets go of the nodes above. Only while nobody but the resident holds this one.
  void forget_place() noexcept { place_ = {}; }

  /// Queues thread-sensitive work of this chain. Throws when its thread can no longer run it.
  void submit_sensitive(work& item) const;
  bool is_open() const noexcept { return open_.load(std::memory_order_acquire); }
  /// Whether a call that has not ended, this one or one above it, blocks the thread of `frame`.
  bool is_below(const lane& frame) const noexcept;
  /// The lane of the frame that could help, while it is open; null otherwise.
  lane* helper() const noexcept;

  void execute(continuation&& function, bool may_run_now) const;
  void work_started() const noexcept;
  void work_finished() const noexcept;

  // --- for the wait-for graph

  /// On the awaiting loop: a coroutine of this chain awaits `op`, and no longer does.
  void awaits(const suspension& op) noexcept {
    ++awaited_;
    latest_ = &op;
  }
  void has_awaited(const suspension& op) noexcept {
    --awaited_;
    if (latest_ == &op) latest_ = nullptr;
  }
  /// That for which the call's coroutine waits, if it waits for nothing else; null: not so, or not
  /// known. While the awaiting loop stands still.
  const suspension* sole_wait() const noexcept;

protected:
  ~chain_node() override;

private:
  void begin(value_cell&& values, ref_ptr<task_scope> tasks, bool hosts_tasks) noexcept {
    tasks_ = std::move(tasks);
    hosts_tasks_ = hosts_tasks;
    values_.take(std::move(values));
    open_.store(true, std::memory_order_release);
  }
  bool reaches_sync_lane() const noexcept;

  // What is small stands where there would be holes.
  mutable std::atomic<std::uint32_t> tracked_{
      0};  // any thread: executors that say that something is under way
  const ref_ptr<loop> loop_;
  const std::unique_ptr<loop_memory> memory_;
  const std::unique_ptr<bound_executor> inner_;  // null: on one of our loops
  chain_place place_;
  [[no_unique_address]] mutable value_cell values_;  // closed between two calls
  bool hosts_tasks_ = false;                         // the executor; likewise the next
  std::atomic<bool> open_{
      false};  // the call of this node has not ended; release by the loop, acquire by any
  std::uint32_t awaited_ = 0;  // the awaiting loop: operations in flight
  ref_ptr<task_scope> tasks_;  // the executor
  const suspension* latest_ =
      nullptr;  // the awaiting loop: the one that was started last, while it is in flight
};

class chain_executor {
public:
  explicit chain_executor(const ref_ptr<chain_node>& node) noexcept : node_(node) {}
  chain_executor(const chain_executor& other) noexcept
      : node_(other.node_), may_run_now_(other.may_run_now_), tracked_(other.tracked_) {
    if (tracked_) node_->work_started();
  }
  chain_executor(chain_executor&& other) noexcept
      : node_(std::move(other.node_)),
        may_run_now_(other.may_run_now_),
        tracked_(std::exchange(other.tracked_, false)) {}
  ~chain_executor() {
    if (tracked_) node_->work_finished();
  }

  const ref_ptr<chain_node>& node() const noexcept { return node_; }
  /// Leaves an executor that can only be destroyed.
  ref_ptr<chain_node> take_node() && noexcept {
    if (tracked_) return node_;
    return std::move(node_);
  }

  asio::execution_context& query(asio::execution::context_t) const noexcept {
    return node_->context();
  }
  asio::execution::blocking_t query(asio::execution::blocking_t) const noexcept {
    if (may_run_now_) return asio::execution::blocking.possibly;
    return asio::execution::blocking.never;
  }
  asio::execution::outstanding_work_t query(asio::execution::outstanding_work_t) const noexcept {
    if (tracked_) return asio::execution::outstanding_work.tracked;
    return asio::execution::outstanding_work.untracked;
  }

  chain_executor require(asio::execution::blocking_t::never_t) const noexcept {
    return {node_, false, tracked_};
  }
  chain_executor require(asio::execution::blocking_t::possibly_t) const noexcept {
    return {node_, true, tracked_};
  }
  chain_executor require(asio::execution::outstanding_work_t::tracked_t) const noexcept {
    return {node_, may_run_now_, true};
  }
  chain_executor require(asio::execution::outstanding_work_t::untracked_t) const noexcept {
    return {node_, may_run_now_, false};
  }

  template <class F>
  void execute(F&& function) const {
    node_->execute(continuation(std::forward<F>(function)), may_run_now_);
  }

  friend bool operator==(const chain_executor& a, const chain_executor& b) noexcept {
    return a.node_ == b.node_ && a.may_run_now_ == b.may_run_now_ && a.tracked_ == b.tracked_;
  }
  friend bool operator!=(const chain_executor& a, const chain_executor& b) noexcept {
    return !(a == b);
  }

private:
  chain_executor(const ref_ptr<chain_node>& node, bool may_run_now, bool tracked) noexcept
      : node_(node), may_run_now_(may_run_now), tracked_(tracked) {
    if (tracked_) node_->work_started();
  }

  ref_ptr<chain_node> node_;
  bool may_run_now_ = true;
  bool tracked_ =
      false;  // counts as outstanding work of a foreign scheduler, as Asio's own executors do
};

// take_node() empties it: there must be no second any_io_executor that shares it.
static_assert(sizeof(chain_executor) <= 2 * sizeof(void*));

/// The node that `executor` carries; null: none.
const ref_ptr<chain_node>* find_node(const asio::any_io_executor& executor) noexcept;
/// The same, but if it is that of one of our loops, the executor can only be destroyed after this.
ref_ptr<chain_node> take_node(asio::any_io_executor& executor) noexcept;

}  // namespace bothworlds::detail
