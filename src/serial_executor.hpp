// SPDX-License-Identifier: BSL-1.0
//
// One function at a time, in order, on an executor of somebody else's that may have many threads.
//
// What an asio::strand is for; but that one takes memory where it cannot say that there is none:
// when it is copied into another executor, when it has queued a function already, and when it goes
// on to the next one. There, Asio 1.81 ends the program, or the strand stands still. Here execute()
// alone takes memory, before anything is queued, and throws.
//
// mutex_ guards the queue. Where scheduled_ is set, exactly one turn stands in the executor or
// runs; it runs what is queued and sees to the next turn. It is posted under the mutex, so whoever
// finds scheduled_ set may rely on it. With the executor's context goes the turn, and with the turn
// what is queued.
#pragma once

#include <bothworlds/detail/continuation.hpp>
#include <bothworlds/detail/ref_counted.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/execution.hpp>

#include <atomic>
#include <exception>
#include <memory>
#include <mutex>

namespace bothworlds::detail {

namespace asio = boost::asio;

struct thread_state;

class serial_queue final : public ref_counted {
public:
  explicit serial_queue(const asio::any_io_executor& executor);

  asio::execution_context& context() const noexcept { return context_; }
  const asio::any_io_executor& inner() const noexcept { return inner_; }
  /// Runs `function`: now, if `may_run_now` and the caller is one of this queue's functions, else
  /// later. Throws std::bad_alloc; then the function is destroyed. Any thread.
  void execute(continuation function, bool may_run_now);

private:
  struct entry;
  class turn;

  ~serial_queue() override;
  void push(std::unique_ptr<entry> last) noexcept;
  std::unique_ptr<entry> pop() noexcept;
  bool post_turn();
  void run();
  void run_batch();
  bool leave() noexcept;
  void drop() noexcept;

  asio::execution_context& context_;
  const asio::any_io_executor inner_;
  const asio::any_io_executor never_now_;  // the same, but never runs anything in execute()
  std::mutex mutex_;
  std::unique_ptr<entry> first_;                       // mutex_
  entry* last_ = nullptr;                              // mutex_; where there is a first
  bool scheduled_ = false;                             // mutex_
  std::atomic<const thread_state*> runs_on_{nullptr};  // the turn writes; null: no function runs
};

/// Small enough for an any_io_executor to hold it without memory of its own.
class serial_executor {
public:
  explicit serial_executor(ref_ptr<serial_queue> queue) noexcept : queue_(std::move(queue)) {}
  serial_executor(const serial_executor& other) noexcept
      : queue_(other.queue_), may_run_now_(other.may_run_now_) {}
  serial_executor(serial_executor&& other) noexcept = default;

  /// What the functions are run by.
  const asio::any_io_executor& inner() const noexcept { return queue_->inner(); }

  asio::execution_context& query(asio::execution::context_t) const noexcept {
    return queue_->context();
  }
  asio::execution::blocking_t query(asio::execution::blocking_t) const noexcept {
    if (may_run_now_) return asio::execution::blocking.possibly;
    return asio::execution::blocking.never;
  }
  serial_executor require(asio::execution::blocking_t::never_t) const noexcept {
    return {queue_, false};
  }
  serial_executor require(asio::execution::blocking_t::possibly_t) const noexcept {
    return {queue_, true};
  }

  template <class F>
  void execute(F&& function) const {
    queue_->execute(continuation(std::forward<F>(function)), may_run_now_);
  }

  friend bool operator==(const serial_executor& a, const serial_executor& b) noexcept {
    return a.queue_ == b.queue_ && a.may_run_now_ == b.may_run_now_;
  }
  friend bool operator!=(const serial_executor& a, const serial_executor& b) noexcept {
    return !(a == b);
  }

private:
  serial_executor(const ref_ptr<serial_queue>& queue, bool may_run_now) noexcept
      : queue_(queue), may_run_now_(may_run_now) {}

  ref_ptr<serial_queue> queue_;
  bool may_run_now_ = true;
};

/// `executor`, or a serial_executor over it: a coroutine on an io_context with several threads must
/// not meet its own cancellation.
asio::any_io_executor serialised(const asio::any_io_executor& executor);

}  // namespace bothworlds::detail
