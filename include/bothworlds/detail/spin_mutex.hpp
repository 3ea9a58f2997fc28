// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <bothworlds/config.hpp>

#include <atomic>

namespace bothworlds::detail {

/// One byte, for critical sections of a few instructions that call nothing. Yields when it has to
/// wait long, so that it also makes progress on one CPU.
class BOTHWORLDS_API spin_mutex {
public:
  void lock() noexcept {
    if (locked_.exchange(true, std::memory_order_acquire)) lock_contended();
  }
  void unlock() noexcept { locked_.store(false, std::memory_order_release); }

private:
  void lock_contended() noexcept;

  std::atomic<bool> locked_{false};
};

}  // namespace bothworlds::detail
