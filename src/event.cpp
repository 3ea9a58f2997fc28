// SPDX-License-Identifier: BSL-1.0
#include "event.hpp"

#include "aborted.hpp"

#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/system/system_error.hpp>

#include <mutex>

namespace bothworlds::detail {
namespace {

struct start_wait {
  resumes_handler<suspension>* waiting;
  template <class Handler>
  void operator()(Handler&& handler) const noexcept {
    const asio::cancellation_slot slot = asio::get_associated_cancellation_slot(handler);
    waiting->suspend(continuation(std::forward<Handler>(handler)), slot);
  }
};

}  // namespace

void event::set() noexcept {
  for (;;) {
    waiter* next = nullptr;
    {
      const std::lock_guard lock(mutex_);
      set_.store(true, std::memory_order_release);
      if (waiting_.empty()) return;
      next = &waiting_.front();
      waiting_.pop_front();
    }
    next->woken();
  }
}

bool event::remove(waiter& from) noexcept {
  const std::lock_guard lock(mutex_);
  if (!from.hook_.is_linked()) return false;
  waiting_.erase(waiting_.iterator_to(from));
  return true;
}

void event::waiter::begin(asio::cancellation_slot slot) {
  // Before it is in the list, so that no cancellation is lost.
  if (slot.is_connected())
    slot.assign(
        [self = ref_ptr<waiter>(this)](asio::cancellation_type type) { self->cancel(type); });
  intrusive_ptr_add_ref(static_cast<const ref_counted*>(this));
  {
    const std::lock_guard lock(of_.mutex_);
    if (!of_.is_set()) return of_.waiting_.push_back(*this);
  }
  deliver();
}

void event::waiter::begin_failed() noexcept {
  failure_ = std::current_exception();
  intrusive_ptr_add_ref(static_cast<const ref_counted*>(this));
  deliver();
}

void event::waiter::cancel(asio::cancellation_type type) noexcept {
  if (cancels_) return cancels_->request_cancel(type);
  if (!of_.remove(*this)) return;
  failure_ = operation_aborted();
  deliver();
}

void event::waiter::orphaned() noexcept {
  const ref_ptr<waiter> self(this);
  if (of_.remove(*this)) intrusive_ptr_release(static_cast<const ref_counted*>(this));
  drop_coroutine();
}

asio::awaitable<void> event::wait(ref_ptr<const ref_counted> owner, ref_ptr<blocked_call> cancels) {
  if (is_set()) co_return;
  const ref_ptr<waiter> waiting(new waiter(*this, std::move(owner), std::move(cancels)));
  waiting->prepare_resumption(co_await asio::this_coro::executor, std::source_location());
  const start_wait initiate{waiting.get()};
  co_await asio::async_initiate<const asio::deferred_t&, void()>(initiate, asio::deferred);
  waiting->rethrow_failure();
}

}  // namespace bothworlds::detail
