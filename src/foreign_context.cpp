// SPDX-License-Identifier: BSL-1.0
#include "foreign_context.hpp"

#include "thread_state.hpp"

#include <boost/asio/execution.hpp>

#include <chrono>
#include <thread>

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

bool foreign_context::gone() noexcept {
  const std::lock_guard lock(mutex_);
  return gone_;
}

bool foreign_context::stopped() noexcept {
  const std::lock_guard lock(mutex_);
  return gone_ || (scheduler_ && scheduler_.stopped());
}

void foreign_context::track(crossing& call) noexcept {
  const std::lock_guard lock(mutex_);
  awaiting_.push_back(call);
}

bool foreign_context::untrack(crossing& call) noexcept {
  const std::lock_guard lock(mutex_);
  if (!call.in_flight_hook_.is_linked()) return false;
  awaiting_.erase(awaiting_.iterator_to(call));
  return true;
}

void foreign_context::destroyed() noexcept {
  std::unique_lock lock(mutex_);
  gone_ = true;
  while (!awaiting_.empty()) {
    const ref_ptr<crossing> call(&awaiting_.front());
    awaiting_.pop_front();
    lock.unlock();
    // The coroutine's frame goes with it, while the context's other services are still there.
    call->drop_continuation();
    lock.lock();
  }
}

foreign_awaiter::foreign_awaiter(const asio::any_io_executor& executor)
    : executor_(asio::require(executor, asio::execution::blocking.never)),
      context_(foreign_context::of(asio::query(executor, asio::execution::context))) {}

foreign_awaiter::~foreign_awaiter() = default;

/// What is handed to the context: destroyed without having been called only when the context is.
class foreign_awaiter::resumption {
public:
  explicit resumption(crossing* adopted) noexcept : call_(adopted, false) {}
  resumption(resumption&&) noexcept = default;
  ~resumption() {
    if (call_ && call_->foreign_->context()->gone()) call_->drop_continuation();
  }
  void operator()() { crossing::resumed(call_.detach(), true); }

private:
  ref_ptr<crossing> call_;
};

void foreign_awaiter::post(crossing* call) noexcept {
  const ref_ptr<foreign_awaiter> self(this);
  for (;;) {
    try {
      const std::lock_guard lock(context_->mutex_);
      if (!call->in_flight_hook_.is_linked()) break;
      intrusive_ptr_add_ref(call);
      executor_.execute(resumption(call));
      context_->awaiting_.erase(context_->awaiting_.iterator_to(*call));
      break;
    } catch (const std::bad_alloc&) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  intrusive_ptr_release(call);
}

}  // namespace bothworlds::detail
