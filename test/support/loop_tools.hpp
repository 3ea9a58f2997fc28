// SPDX-License-Identifier: BSL-1.0
#pragma once

/// Loops, children and events made of plain Asio, so that a case needs nothing of the library under
/// test but the call that it is about.

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/system/system_error.hpp>

#include <atomic>
#include <chrono>
#include <exception>
#include <memory>
#include <stdexcept>
#include <thread>
#include <utility>

namespace bothworlds::testing {

namespace asio = boost::asio;
using asio::awaitable;

/// Runs `coroutine_fn` as the root coroutine of `loop`, which this thread drives until it is out of
/// work.
template <class F>
void run_async_root(asio::io_context& loop, F coroutine_fn) {
  std::exception_ptr failure;
  bool ended = false;
  asio::co_spawn(loop, std::move(coroutine_fn), [&](std::exception_ptr e) {
    failure = std::move(e);
    ended = true;
  });
  loop.run();
  if (failure) std::rethrow_exception(failure);
  if (!ended) throw std::logic_error("the loop ran dry before its root coroutine ended");
}

template <class F>
void run_async_root(F coroutine_fn) {
  asio::io_context loop(1);
  run_async_root(loop, std::move(coroutine_fn));
}

/// Lets everything run that the loop has ready.
inline awaitable<void> yield_to_loop() {
  auto executor = co_await asio::this_coro::executor;
  co_await asio::post(executor, asio::use_awaitable);
}

/// Set once, by any thread. Threads that wait sleep until then.
class gate {
public:
  void open() noexcept {
    open_.store(true, std::memory_order_release);
    open_.notify_all();
  }
  void wait() const noexcept { open_.wait(false, std::memory_order_acquire); }
  bool is_open() const noexcept { return open_.load(std::memory_order_acquire); }

private:
  std::atomic<bool> open_{false};
};

/// Set once, on the loop. A coroutine that waits can be cancelled; being set wins over being
/// cancelled.
class loop_event {
public:
  explicit loop_event(const asio::any_io_executor& executor)
      : timer_(executor, asio::steady_timer::time_point::max()) {}

  void set() {
    set_ = true;
    timer_.cancel();
  }
  bool is_set() const { return set_; }

  awaitable<void> wait() {
    while (!set_) {
      boost::system::error_code ignored;
      co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
      if (!set_) throw boost::system::system_error(asio::error::operation_aborted);
    }
  }

private:
  asio::steady_timer timer_;
  bool set_ = false;
};

/// Lets go all of `count` coroutines of one loop when the last of them arrives.
class loop_barrier {
public:
  loop_barrier(const asio::any_io_executor& executor, int count)
      : all_here_(executor), missing_(count) {}

  awaitable<void> arrive_and_wait() {
    if (--missing_ == 0) all_here_.set();
    co_await all_here_.wait();
  }

private:
  loop_event all_here_;
  int missing_;
};

/// A child started with plain `asio::co_spawn`; joined and cancelled on its loop, as often as one
/// likes.
class child_task {
public:
  template <class F>
  child_task(const asio::any_io_executor& executor, F coroutine_fn)
      : state_(std::make_shared<state>(executor)) {
    asio::co_spawn(
        executor, std::move(coroutine_fn),
        asio::bind_cancellation_slot(state_->cancelled.slot(), [s = state_](std::exception_ptr e) {
          s->failure = std::move(e);
          s->ended.set();
        }));
  }

  /// Waits for the end and throws what the child threw. Cancelling the wait leaves the child alone.
  awaitable<void> join() const {
    auto s = state_;
    co_await s->ended.wait();
    if (s->failure) std::rethrow_exception(s->failure);
  }

  void cancel(asio::cancellation_type type = asio::cancellation_type::terminal) const {
    state_->cancelled.emit(type);
    // Asio may have posted the emission with a plain pointer into the signal.
    asio::post(state_->executor, [s = state_] {});
  }

  bool done() const { return state_->ended.is_set(); }

private:
  struct state {
    explicit state(const asio::any_io_executor& ex) : executor(ex), ended(ex) {}
    asio::any_io_executor executor;
    loop_event ended;
    std::exception_ptr failure;
    asio::cancellation_signal cancelled;
  };
  std::shared_ptr<state> state_;
};

/// Counts the millisecond ticks of a timer on the loop: what a blocking callable asks to see that
/// the loop turns.
class heartbeat {
public:
  explicit heartbeat(const asio::any_io_executor& executor)
      : state_(std::make_shared<state>(executor)) {
    arm(state_);
  }
  heartbeat(const heartbeat&) = delete;
  heartbeat& operator=(const heartbeat&) = delete;
  /// On the loop.
  ~heartbeat() {
    state_->stopped = true;
    state_->timer.cancel();
  }

  /// Blocks until the loop has ticked `count` times more: for ever, where the loop stands still.
  void block_for_ticks(int count) const {
    const int goal = state_->ticks.load() + count;
    for (int seen = state_->ticks.load(); seen < goal; seen = state_->ticks.load())
      state_->ticks.wait(seen);
  }

private:
  struct state {
    explicit state(const asio::any_io_executor& ex) : timer(ex) {}
    asio::steady_timer timer;
    bool stopped = false;  // the loop only
    std::atomic<int> ticks{0};
  };

  static void arm(const std::shared_ptr<state>& s) {
    s->timer.expires_after(std::chrono::milliseconds(1));
    s->timer.async_wait([s](const boost::system::error_code&) {
      if (s->stopped) return;
      ++s->ticks;
      s->ticks.notify_all();
      arm(s);
    });
  }

  std::shared_ptr<state> state_;
};

/// A thread that drives an io_context of its own until it is told to stop.
class loop_thread {
public:
  loop_thread() : work_(asio::make_work_guard(context_)), thread_([this] { context_.run(); }) {}
  ~loop_thread() {
    work_.reset();
    if (thread_.joinable()) thread_.join();
  }

  asio::io_context& context() { return context_; }
  asio::any_io_executor executor() { return context_.get_executor(); }
  /// Leaves the loop where it stands.
  void stop() {
    context_.stop();
    thread_.join();
  }

private:
  asio::io_context context_{1};
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  std::thread thread_;
};

/// How many are inside at once, at most.
class in_flight {
public:
  class visit {
  public:
    explicit visit(in_flight& counter) : counter_(counter) {
      const int now = ++counter_.now_;
      for (int max = counter_.max_; now > max && !counter_.max_.compare_exchange_weak(max, now);) {
      }
    }
    visit(const visit&) = delete;
    visit& operator=(const visit&) = delete;
    ~visit() { --counter_.now_; }

  private:
    in_flight& counter_;
  };

  int now() const { return now_; }
  int max() const { return max_; }

private:
  std::atomic<int> now_{0};
  std::atomic<int> max_{0};
};

/// For state that nobody announces, such as a thread that ends: false if it has not come about
/// within the limit.
template <class Predicate>
bool comes_true(Predicate predicate, std::chrono::seconds limit = std::chrono::seconds(30)) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!predicate()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::yield();
  }
  return true;
}

/// The same for a coroutine, whose loop turns meanwhile.
template <class Predicate>
awaitable<bool> comes_true_on_loop(Predicate predicate,
                                   std::chrono::seconds limit = std::chrono::seconds(30)) {
  auto executor = co_await asio::this_coro::executor;
  asio::steady_timer tick(executor);
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!predicate()) {
    if (std::chrono::steady_clock::now() > end) co_return false;
    tick.expires_after(std::chrono::milliseconds(1));
    co_await tick.async_wait(asio::use_awaitable);
  }
  co_return true;
}

inline bool is_cancellation(const boost::system::system_error& e) {
  return e.code() == asio::error::operation_aborted;
}

}  // namespace bothworlds::testing
