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

#include "chain_place.hpp"
#include "context_values.hpp"
#include "foreign_context.hpp"

#include <bothworlds/detail/continuation.hpp>
#include <bothworlds/detail/ref_counted.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/execution.hpp>

#include <atomic>
#include <cstdint>
#include <source_location>
#include <utility>

namespace bothworlds::detail {

namespace asio = boost::asio;

class loop;
class loop_memory;
class suspension;
class task_scope;
class work;

/// What a coroutine's executor leads to: a call (call_node), or a coroutine that was spawned.
class chain_node : public ref_counted {
public:
  /// Null: not on one of our loops.
  const ref_ptr<loop>& own_loop() const noexcept { return loop_; }
  /// Otherwise.
  const ref_ptr<foreign_context>& foreign() const noexcept { return bound()->context(); }
  /// Of a foreign context, inside with_context() or on its own threads.
  const asio::any_io_executor& inner() const noexcept { return bound()->may_run_now(); }
  asio::execution_context& context() const noexcept;
  /// Where Asio recycles what its coroutines are made of. Null: where the loop does. The driver, like
  /// the loop's.
  virtual loop_memory* memory() const noexcept { return nullptr; }

  virtual const chain_place& place() const noexcept = 0;
  /// For what is spawned here. On one of our loops; any thread. Throws std::bad_alloc.
  virtual ref_ptr<const shared_place> place_of_spawned() = 0;
  /// The scope of the tasks that are made here; made where there can be one. Null: there cannot. The
  /// executor.
  virtual ref_ptr<task_scope> tasks(std::source_location where) = 0;
  /// Of the call: whoever runs in it changes them.
  value_cell& values() const noexcept { return values_; }
  /// How many executors say that something is under way: two for each coroutine, one for each
  /// operation of Asio's.
  std::uint32_t unfinished() const noexcept { return tracked_.load(std::memory_order_relaxed); }

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
  /// Null: on somebody else's executor.
  explicit chain_node(ref_ptr<loop> own) noexcept;
  ~chain_node() override;

  /// What runs here begins, with these values.
  void open(value_cell&& values) noexcept {
    values_.take(std::move(values));
    open_.store(true, std::memory_order_release);
  }
  /// It has ended; gives its values, for value_cell::take().
  value_cell&& close() noexcept {
    open_.store(false, std::memory_order_release);
    return std::move(values_);
  }

private:
  /// The executor that is not of one of our loops; null: it is.
  virtual const bound_executor* bound() const noexcept { return nullptr; }
  bool reaches_sync_lane() const noexcept;

  // What is small stands where there would be holes.
  mutable std::atomic<std::uint32_t> tracked_{
      0};  // any thread: executors that say that something is under way
  const ref_ptr<loop> loop_;
  [[no_unique_address]] mutable value_cell values_;  // closed between two calls
  std::atomic<bool> open_{
      false};                  // what runs here has not ended; release by the loop, acquire by any
  std::uint32_t awaited_ = 0;  // the awaiting loop: operations in flight
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
