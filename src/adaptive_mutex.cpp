// SPDX-License-Identifier: BSL-1.0
#include "adaptive_mutex.hpp"

#include "futex.hpp"
#include "short_wait.hpp"

namespace bothworlds::detail {

void adaptive_mutex::lock_contended() noexcept {
  const int rounds = spin_rounds() / 4;
  for (int round = 0; round < rounds; ++round) {
    cpu_relax();
    if (state_.load(std::memory_order_relaxed) == open && try_lock()) return;
  }
  // From here on it is this thread that may have to be woken, or another one that sleeps already.
  while (state_.exchange(contended, std::memory_order_acquire) != open)
    futex_wait(state_, contended);
}

// The mutex may be gone by now, with its owner's last reference: only its address is used.
void adaptive_mutex::wake_one() noexcept { futex_wake(state_); }

}  // namespace bothworlds::detail
