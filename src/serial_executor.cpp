// SPDX-License-Identifier: BSL-1.0
#include "serial_executor.hpp"

#include "hand_over.hpp"
#include "unhandled.hpp"

#include <boost/asio/io_context.hpp>
#include <boost/asio/strand.hpp>

#include <utility>

namespace bothworlds::detail {

struct serial_queue::entry : recycled {
  explicit entry(continuation what) noexcept : function(std::move(what)) {}

  continuation function;
  std::unique_ptr<entry> next;
};

/// What stands in the executor. Destroyed there without having been called, it takes with it what
/// is queued: the executor's context is going.
class serial_queue::turn {
public:
  explicit turn(serial_queue& of) noexcept : of_(&of) {}
  turn(turn&&) noexcept = default;
  ~turn() {
    if (of_ && !hand_over::fails(of_.get())) of_->drop();
  }
  void operator()() {
    const ref_ptr<serial_queue> running = std::move(of_);
    running->run();
  }

private:
  ref_ptr<serial_queue> of_;
};

serial_queue::serial_queue(const asio::any_io_executor& executor)
    : context_(asio::query(executor, asio::execution::context)),
      inner_(executor),
      never_now_(asio::require(executor, asio::execution::blocking.never)) {}

serial_queue::~serial_queue() = default;

// mutex_.
void serial_queue::push(std::unique_ptr<entry> last) noexcept {
  entry* const added = last.get();
  (first_ ? last_->next : first_) = std::move(last);
  last_ = added;
}

// mutex_. Null: there is none.
std::unique_ptr<serial_queue::entry> serial_queue::pop() noexcept {
  std::unique_ptr<entry> taken = std::move(first_);
  if (taken) first_ = std::move(taken->next);
  return taken;
}

// mutex_. False: the executor takes nothing any more.
bool serial_queue::post_turn() {
  hand_over current(this);
  never_now_.execute(turn(*this));
  return !current.failed;
}

void serial_queue::execute(continuation function, bool may_run_now) {
  if (may_run_now && runs_on_.load(std::memory_order_relaxed) == &this_thread_state())
    return function();
  auto fresh = std::make_unique<entry>(std::move(function));  // goes without the lock, if it must
  const std::lock_guard lock(mutex_);
  if (!scheduled_ && !post_turn()) return;
  scheduled_ = true;
  push(std::move(fresh));
}

void serial_queue::run() {
  std::exception_ptr failure;
  do {
    try {
      run_batch();
    } catch (...) {
      if (failure)
        report_unhandled("a handler");
      else
        failure = std::current_exception();
    }
  } while (!leave());
  if (failure) std::rethrow_exception(failure);
}

void serial_queue::run_batch() {
  constexpr int batch = 64;  // then others of the executor get their turn
  struct running_scope {
    std::atomic<const thread_state*>& on;
    explicit running_scope(std::atomic<const thread_state*>& where) noexcept : on(where) {
      on.store(&this_thread_state(), std::memory_order_relaxed);
    }
    ~running_scope() { on.store(nullptr, std::memory_order_relaxed); }
  } const here(runs_on_);
  for (int count = 0; count < batch; ++count) {
    std::unique_ptr<entry> next;
    {
      const std::lock_guard lock(mutex_);
      next = pop();
    }
    if (!next) return;
    continuation function = std::move(next->function);
    next.reset();
    function();
  }
}

// Ends the turn. False: there is more to run, and no memory for the next turn.
bool serial_queue::leave() noexcept {
  try {
    const std::lock_guard lock(mutex_);
    if (!first_) {
      scheduled_ = false;
      return true;
    }
    if (post_turn()) return true;
  } catch (...) {
    return false;
  }
  drop();
  return true;
}

// One by one and without the lock: what goes may queue more here.
void serial_queue::drop() noexcept {
  for (;;) {
    std::unique_ptr<entry> dropped;
    const std::lock_guard lock(mutex_);
    if (!first_) {
      scheduled_ = false;
      return;
    }
    dropped = pop();
  }
}

asio::any_io_executor serialised(const asio::any_io_executor& executor) {
  using any_strand = asio::strand<asio::any_io_executor>;
  using io_strand = asio::strand<asio::io_context::executor_type>;
  if (executor.target<any_strand>() || executor.target<io_strand>() ||
      executor.target<serial_executor>())
    return executor;
  return serial_executor(ref_ptr<serial_queue>(new serial_queue(executor)));
}

}  // namespace bothworlds::detail
