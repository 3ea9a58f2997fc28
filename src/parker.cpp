// SPDX-License-Identifier: BSL-1.0
#include "parker.hpp"

#include "futex.hpp"
#include "short_wait.hpp"

#include <bothworlds/detail/spin_mutex.hpp>

#include <ctime>

#include <sched.h>

namespace bothworlds::detail {
namespace {

timespec to_timespec(parker::clock::time_point at) noexcept {
  const auto since = std::chrono::duration_cast<std::chrono::nanoseconds>(at.time_since_epoch());
  return {static_cast<time_t>(since.count() / 1'000'000'000),
          static_cast<long>(since.count() % 1'000'000'000)};
}

}  // namespace

void parker::park() noexcept { sleep(nullptr); }

bool parker::park_until(clock::time_point deadline) noexcept { return sleep(&deadline); }

bool parker::sleep(const clock::time_point* deadline) noexcept {
  std::uint32_t state = empty;
  if (!state_.compare_exchange_strong(state, parked, std::memory_order_acq_rel)) {
    // A token. Taken by an exchange, not a store: a store could still be on its way while the owner
    // already looks at what it waits for, and would then wipe out the wake that announces it.
    state_.exchange(empty, std::memory_order_acq_rel);
    return true;
  }
  const timespec until = deadline ? to_timespec(*deadline) : timespec{};
  for (;;) {
    const bool late = !futex_wait(state_, parked, deadline ? &until : nullptr);
    state = token;
    if (state_.compare_exchange_strong(state, empty, std::memory_order_acq_rel)) return true;
    if (late) {
      // Either nobody came, or somebody comes right now: the exchange says which.
      return state_.exchange(empty, std::memory_order_acq_rel) == token;
    }
  }
}

void parker::unpark() noexcept {
  if (state_.exchange(token, std::memory_order_acq_rel) == parked) futex_wake(state_);
}

void spin_mutex::lock_contended() noexcept {
  int rounds = 0;
  do {
    while (locked_.load(std::memory_order_relaxed)) {
      cpu_relax();
      if (++rounds % 64 == 0) ::sched_yield();
    }
  } while (locked_.exchange(true, std::memory_order_acquire));
}

}  // namespace bothworlds::detail
