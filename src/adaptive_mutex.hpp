// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <atomic>
#include <cstdint>

namespace bothworlds::detail {

/// A mutex for critical sections that are short and often wanted by two threads at once: who finds
/// it taken waits awake for a moment, where several CPUs may run this process, and only looks
/// meanwhile, so that the holder keeps the cache line. glibc's own adaptive mutex is as good at
/// that, but takes ten times as many instructions where nobody else wants it.
///
/// state_ holds: open, taken, or contended (taken, and somebody may sleep). The protocol is the third
/// of Ulrich Drepper's "Futexes Are Tricky" (2011).
class adaptive_mutex {
public:
  adaptive_mutex() = default;
  adaptive_mutex(const adaptive_mutex&) = delete;
  adaptive_mutex& operator=(const adaptive_mutex&) = delete;

  void lock() noexcept {
    if (!try_lock()) lock_contended();
  }
  bool try_lock() noexcept {
    std::uint32_t seen = open;
    return state_.compare_exchange_strong(seen, taken, std::memory_order_acquire,
                                          std::memory_order_relaxed);
  }
  void unlock() noexcept {
    if (state_.exchange(open, std::memory_order_release) == contended) wake_one();
  }

private:
  enum : std::uint32_t { open, taken, contended };

  void lock_contended() noexcept;
  void wake_one() noexcept;

  std::atomic<std::uint32_t> state_{open};
};

}  // namespace bothworlds::detail
