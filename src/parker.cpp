// SPDX-License-Identifier: BSL-1.0
#include "parker.hpp"

#include "short_wait.hpp"

#include <bothworlds/detail/spin_mutex.hpp>

#include <cerrno>
#include <ctime>

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace bothworlds::detail {
namespace {

// FUTEX_WAIT_BITSET takes an absolute deadline of CLOCK_MONOTONIC, which is what steady_clock
// reads.
long futex_wait(const std::atomic<std::uint32_t>& word, std::uint32_t expected,
                const timespec* deadline) noexcept {
  return ::syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, expected, deadline, nullptr,
                   FUTEX_BITSET_MATCH_ANY);
}

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
    const long result = futex_wait(state_, parked, deadline ? &until : nullptr);
    const bool late = result != 0 && errno == ETIMEDOUT;
    state = token;
    if (state_.compare_exchange_strong(state, empty, std::memory_order_acq_rel)) return true;
    if (late) {
      // Either nobody came, or somebody comes right now: the exchange says which.
      return state_.exchange(empty, std::memory_order_acq_rel) == token;
    }
  }
}

void parker::unpark() noexcept {
  if (state_.exchange(token, std::memory_order_acq_rel) == parked)
    ::syscall(SYS_futex, &state_, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
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
