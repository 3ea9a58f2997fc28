// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "lane.hpp"

#include <bothworlds/detail/spin_mutex.hpp>

#include <boost/intrusive/list.hpp>

#include <atomic>
#include <chrono>

namespace bothworlds::detail {

class async_call;

/// Something that happens once. Threads that wait for it serve their chains meanwhile.
class completion {
public:
  using clock = std::chrono::steady_clock;

  bool is_set() const noexcept { return set_.load(std::memory_order_acquire); }
  /// Any thread, any number of times. Who calls it keeps this alive: those who wait may go before
  /// it returns.
  void set() noexcept;
  /// False: `deadline` has passed first. `waited_for`: the call whose end this is, for the wait-for
  /// graph; null: none, or there is a deadline. Also false where what it has run meanwhile has
  /// forked, and this is the child. Throws std::bad_alloc.
  bool wait_until(clock::time_point deadline, async_call* waited_for = nullptr);
  bool wait(async_call* waited_for = nullptr) {
    return wait_until(clock::time_point::max(), waited_for);
  }

private:
  struct waiter {
    ref_ptr<lane> thread;
    boost::intrusive::list_member_hook<> hook;  // the mutex
  };

  std::atomic<bool> set_{false};  // the mutex to write; any thread reads
  spin_mutex mutex_;
  boost::intrusive::list<
      waiter,
      boost::intrusive::member_hook<waiter, boost::intrusive::list_member_hook<>, &waiter::hook>,
      boost::intrusive::constant_time_size<false>>
      waiters_;  // mutex_
};

}  // namespace bothworlds::detail
