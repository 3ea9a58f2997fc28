// SPDX-License-Identifier: BSL-1.0
//
// A coroutine that is suspended in an operation of this library: what resumes it, and where.
//
// What resumes it belongs to the loop that the coroutine runs on, which alone calls or drops it.
// Who completes the operation, on any thread, hands the loop one reference by deliver() and touches
// nothing of it afterwards. If the loop or the context goes first, the coroutine's frame goes with
// it: orphaned(). Exactly one of the two happens.
#pragma once

#include <bothworlds/detail/continuation.hpp>
#include <bothworlds/detail/loop_op.hpp>
#include <bothworlds/detail/ref_counted.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/intrusive/list_hook.hpp>

#include <source_location>
#include <utility>

namespace bothworlds::detail {

namespace asio = boost::asio;

class chain_node;
class crossing;
class foreign_awaiter;
class foreign_context;
class loop;
class work;

class BOTHWORLDS_API suspension : private loop_op {
public:
  suspension(const suspension&) = delete;
  suspension& operator=(const suspension&) = delete;

  /// Finds out where a coroutine with this executor is to be resumed. On its thread, before it is
  /// suspended. Throws std::bad_alloc; forked_child, made at `where`, where the coroutine's loop is
  /// the parent process's.
  void prepare_resumption(const asio::any_io_executor& awaiting, std::source_location where);
  /// The same, and keeps what the executor holds instead of counting it once more.
  void prepare_resumption(asio::any_io_executor&& awaiting, std::source_location where);

  /// The loop that resumes it. Null: another kind of loop.
  loop* awaiting_loop() const noexcept { return on_foreign_ ? nullptr : loop_; }
  const ref_ptr<chain_node>& awaiting_node() const noexcept { return node_; }
  /// Its place on that one; null: the loop is one of ours, or not known yet.
  foreign_awaiter* awaiting_foreign() const noexcept { return on_foreign_ ? foreign_ : nullptr; }

protected:
  suspension() noexcept;
  ~suspension();

  /// The coroutine is suspended, and resumption() ready: lets the loop know of it, then begins the
  /// operation. On the coroutine's thread, once.
  void suspended(asio::cancellation_slot slot) noexcept;
  /// What goes on with the coroutine, or drops it where that is destroyed. On the awaiting loop, once.
  virtual continuation resumption() noexcept = 0;

  /// For the wait-for graph: null if it is an operation of another kind.
  virtual const crossing* as_crossing() const noexcept { return nullptr; }
  /// What is counted when a reference to this is taken.
  virtual const ref_counted& counted() const noexcept = 0;
  /// On the awaiting loop: connects cancellation, then publishes the operation. May throw.
  virtual void begin(asio::cancellation_slot slot) = 0;
  /// begin() was left by the exception being handled.
  virtual void begin_failed() noexcept = 0;
  /// The delivery has arrived, right before the coroutine resumes; or it never will (`resumes` is
  /// false).
  virtual void arrived(bool resumes) noexcept = 0;
  /// The loop is going: drops the coroutine, and leaves the operation to itself. On the thread that
  /// closes the loop or destroys the context.
  virtual void orphaned() noexcept = 0;

  /// Resumes the coroutine on its loop; takes the caller's reference. Any thread, once. Cannot
  /// fail. `ended`: what has nothing else to do on this thread; null: nothing.
  void deliver(const work* ended = nullptr) noexcept;
  void drop_coroutine() noexcept;
  /// Before it is delivered, on the awaiting loop: somebody goes on asking for the node.
  void keeps_node() noexcept { keeps_node_ = true; }

private:
  [[noreturn]] static void refuse_in_child(std::source_location where);
  void check_resumption(const asio::any_io_executor& awaiting, std::source_location where);

  friend class foreign_awaiter;
  friend class foreign_context;
  friend class loop;
  friend class wait_graph;

  class entry_on_its_loop;

  void enter(asio::cancellation_slot slot) noexcept;
  continuation take_resumption() noexcept {
    return std::exchange(waits_, false) ? resumption() : continuation();
  }
  void undeliverable() noexcept;
  /// What a delivery does on the awaiting loop; takes the delivery's reference. Throws what leaves
  /// the coroutine, of which nothing here is left then.
  void arrive(bool resumes);
  void take_turn(bool resumes) noexcept final;

  // What stands first is for who delivers; the rest is written on the awaiting loop, or, where that
  // is a foreign one, under its context's mutex.
  union {
    loop* loop_ = nullptr;      // that of node_, which keeps it; null: not known yet
    foreign_awaiter* foreign_;  // with a reference; where on_foreign_
  };
  ref_ptr<chain_node> node_;  // set by prepare_resumption(), then constant until it has arrived;
                              // null: the coroutine has no chain
  boost::intrusive::list_member_hook<>
      in_flight_hook_;       // the awaiting loop's driver, or the foreign context's mutex
  bool on_foreign_ = false;  // as node_
  bool keeps_node_ = false;
  bool waits_ =
      false;  // who suspends it, then the awaiting loop: resumption() is still to be called
};

/// A suspension whose coroutine, or whatever else waits for it, goes on by way of a handler.
template <class Suspension>
class resumes_handler : public Suspension {
public:
  /// Once. On the thread of who waits, when that is suspended.
  void suspend(continuation&& resume, asio::cancellation_slot slot) noexcept {
    resume_ = std::move(resume);
    this->suspended(slot);
  }

protected:
  using Suspension::Suspension;
  ~resumes_handler() = default;

private:
  continuation resumption() noexcept final { return std::move(resume_); }

  continuation resume_;
};

}  // namespace bothworlds::detail
