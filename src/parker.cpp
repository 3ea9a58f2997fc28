// SPDX-License-Identifier: BSL-1.0
#include "parker.hpp"

#include <bothworlds/detail/spin_mutex.hpp>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <utility>

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

int usable_cpus() noexcept {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (::sched_getaffinity(0, sizeof mask, &mask) != 0) return 1;
  return CPU_COUNT(&mask);
}

}  // namespace

int spin_rounds() noexcept {
  // About 10 microseconds: as long as a futex wake on a virtual machine takes at the least. Asked
  // once: a process that is pinned later merely spins a little in vain.
  static const int rounds = usable_cpus() > 1 ? 400 : 0;
  return rounds;
}

bool short_wait::yield() noexcept {
  using clock = std::chrono::steady_clock;
  const auto before = clock::now();
  ::sched_yield();
  slow_ = clock::now() - before > std::chrono::milliseconds(1);
  return !slow_;
}

void short_wait::learn(bool came) noexcept {
  constexpr unsigned most_in_vain = 8;
  if (came && !std::exchange(slow_, false)) {
    in_vain_ = 0;
    return;
  }
  in_vain_ = std::min(in_vain_ + 1, most_in_vain);
  skip_ = (1U << in_vain_) - 1;
}

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
