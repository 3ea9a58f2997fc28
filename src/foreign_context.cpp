// SPDX-License-Identifier: BSL-1.0
#include "foreign_context.hpp"

#include "chain.hpp"
#include "hand_over.hpp"
#include "thread_state.hpp"
#include "wait_for_memory.hpp"

#include <boost/asio/execution.hpp>

namespace bothworlds::detail {
namespace {

class foreign_service final : public asio::execution_context::service {
public:
  using key_type = foreign_service;
  static asio::execution_context::id id;

  explicit foreign_service(asio::execution_context& owner)
      : service(owner), state(new foreign_context(owner)) {}

  const ref_ptr<foreign_context> state;

private:
  void shutdown() override { state->destroyed(); }
};

asio::execution_context::id foreign_service::id;

}  // namespace

ref_ptr<foreign_context> foreign_context::of(asio::execution_context& context) {
  return asio::use_service<foreign_service>(context).state;
}

foreign_context::~foreign_context() = default;

bound_executor::bound_executor(const ref_ptr<foreign_context>& context,
                               asio::any_io_executor executor)
    : context_(context),
      may_run_now_(std::move(executor)),
      never_now_(asio::require(may_run_now_, asio::execution::blocking.never)) {
  context_->bound_.push_back(*this);
}

bound_executor::~bound_executor() {
  const std::lock_guard lock(context_->mutex_);
  if (!hook_.is_linked()) return;
  context_->bound_.erase(context_->bound_.iterator_to(*this));
  release();
}

void bound_executor::release() noexcept {
  may_run_now_ = nullptr;
  never_now_ = nullptr;
}

bool foreign_context::stopped() noexcept {
  const std::lock_guard lock(mutex_);
  return gone() || (scheduler_ && scheduler_.stopped());
}

void foreign_context::track(suspension& op) noexcept {
  const std::lock_guard lock(mutex_);
  awaiting_.push_back(op);
  if (op.node_) op.node_->awaits(op);
}

void foreign_context::destroyed() noexcept {
  std::unique_lock lock(mutex_);
  gone_.store(true, std::memory_order_release);
  while (!awaiting_.empty()) {
    suspension& op = awaiting_.front();
    const ref_ptr<const ref_counted> kept(&op.counted());
    awaiting_.pop_front();
    lock.unlock();
    // The coroutine's frame goes with it, while the context's other services are still there.
    op.orphaned();
    lock.lock();
  }
  while (!bound_.empty()) {
    bound_executor& executor = bound_.front();
    bound_.pop_front();
    // Destroyed without the lock: a strand takes with it what is queued in it.
    asio::any_io_executor first = std::move(executor.may_run_now_);
    asio::any_io_executor second = std::move(executor.never_now_);
    executor.release();
    lock.unlock();
    first = nullptr;
    second = nullptr;
    lock.lock();
  }
}

foreign_awaiter::foreign_awaiter(const asio::any_io_executor& executor, std::source_location where)
    : context_(foreign_context::of(asio::query(executor, asio::execution::context))) {
  if (context_->is_of_parent_process()) suspension::refuse_in_child(where);
  context_->with_context([&] { executor_.emplace(context_, executor); });
}

foreign_awaiter::~foreign_awaiter() = default;

/// What is handed to the context. Destroyed without having been called, it drops the suspended
/// coroutine: its context goes, or one of the context's services, such as that of strands, does
/// before ours. Destroyed while it is being handed over, it leaves the reference with the one who
/// posts.
class foreign_awaiter::resumption {
public:
  explicit resumption(suspension* adopted) noexcept : op_(adopted) {}
  resumption(resumption&& other) noexcept : op_(std::exchange(other.op_, nullptr)) {}
  ~resumption() {
    if (op_ && !hand_over::fails(op_)) op_->arrive(false);
  }
  /// What leaves the coroutine leaves the user's run(), as it does without this library.
  void operator()() { std::exchange(op_, nullptr)->arrive(true); }

private:
  suspension* op_;
};

void foreign_awaiter::post(suspension* op) noexcept {
  const ref_ptr<foreign_awaiter> self(
      this);  // the suspension, which owns this too, may be gone any moment
  for (;;) {
    {
      const std::lock_guard lock(context_->mutex_);
      if (!op->in_flight_hook_.is_linked())
        break;  // the context is gone, and the coroutine with it
      context_->awaiting_.erase(context_->awaiting_.iterator_to(*op));
      if (op->node_) op->node_->has_awaited(*op);
      hand_over current(op);
      try {
        executor_->never_now().execute(resumption(op));
      } catch (const std::bad_alloc&) {
        // The resumption has been destroyed, and has said so.
      }
      // Unless it failed, the reference has gone with it: the loop may have resumed the coroutine
      // by now.
      if (!current.failed) return;
      context_->awaiting_.push_back(*op);
      if (op->node_) op->node_->awaits(*op);
    }
    wait_for_memory();
  }
  op->undeliverable();
}

}  // namespace bothworlds::detail
