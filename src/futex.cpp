// SPDX-License-Identifier: BSL-1.0
#include "futex.hpp"

#include <cerrno>

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace bothworlds::detail {

// FUTEX_WAIT_BITSET takes an absolute deadline of CLOCK_MONOTONIC, which is what steady_clock
// reads.
bool futex_wait(const std::atomic<std::uint32_t>& word, std::uint32_t expected,
                const timespec* deadline) noexcept {
  return ::syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, expected, deadline, nullptr,
                   FUTEX_BITSET_MATCH_ANY) == 0 ||
         errno != ETIMEDOUT;
}

void futex_wake(const std::atomic<std::uint32_t>& word) noexcept {
  ::syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}

}  // namespace bothworlds::detail
