// SPDX-License-Identifier: BSL-1.0
//
// Something that happens once, on any thread, and that coroutines of any loops wait for.
//
// mutex_ guards the list of who waits. Whoever takes a waiter out of it owns the list's reference,
// and alone may deliver it: set(), a cancellation, or the end of the waiter's loop.
#pragma once

#include <bothworlds/detail/blocked_call.hpp>
#include <bothworlds/detail/spin_mutex.hpp>
#include <bothworlds/detail/suspension.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/intrusive/list.hpp>

#include <atomic>
#include <exception>

namespace bothworlds::detail {

class event {
public:
  event() = default;
  event(const event&) = delete;
  event& operator=(const event&) = delete;

  bool is_set() const noexcept { return set_.load(std::memory_order_acquire); }
  /// Wakes whoever waits. The caller keeps alive what this is part of.
  void set() noexcept;
  /// `owner` is what this is part of. A cancellation of the wait goes to `cancels`, and the wait
  /// goes on; where that is null the wait ends, with operation_aborted.
  asio::awaitable<void> wait(ref_ptr<const ref_counted> owner, ref_ptr<blocked_call> cancels);

private:
  class waiter final : public ref_counted, public resumes_handler<suspension> {
  public:
    waiter(event& of, ref_ptr<const ref_counted> owner, ref_ptr<blocked_call> cancels) noexcept
        : of_(of), owner_(std::move(owner)), cancels_(std::move(cancels)) {}
    void woken() noexcept { deliver(); }
    void rethrow_failure() {
      if (failure_) std::rethrow_exception(std::move(failure_));
    }

    boost::intrusive::list_member_hook<> hook_;  // the event's mutex

  private:
    ~waiter() override = default;
    const ref_counted& counted() const noexcept override { return *this; }
    void begin(asio::cancellation_slot slot) override;
    void begin_failed() noexcept override;
    void arrived(bool) noexcept override {}
    void orphaned() noexcept override;
    void cancel(asio::cancellation_type type) noexcept;

    event& of_;
    const ref_ptr<const ref_counted> owner_;
    const ref_ptr<blocked_call> cancels_;
    std::exception_ptr failure_;  // who delivers it, then the awaiting loop
  };
  using waiters = boost::intrusive::list<
      waiter,
      boost::intrusive::member_hook<waiter, boost::intrusive::list_member_hook<>, &waiter::hook_>,
      boost::intrusive::constant_time_size<false>>;

  bool remove(waiter& from) noexcept;

  spin_mutex mutex_;
  std::atomic<bool> set_{false};  // mutex_ to write
  waiters waiting_;               // mutex_
};

}  // namespace bothworlds::detail
