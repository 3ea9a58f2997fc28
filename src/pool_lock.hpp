// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "adaptive_mutex.hpp"
#include "parker.hpp"

#include <atomic>
#include <utility>

namespace bothworlds::detail {

/// Holds the mutex of a pool. A worker that was chosen while it is held is told when it has been let
/// go: before, it would run into it, and on a CPU that both want, take the holder's place for that.
///
/// The chosen one waits for its wake, so it is there that long; see worker_pool_core.
class pool_lock {
public:
  explicit pool_lock(adaptive_mutex& mutex) noexcept : mutex_(mutex) { mutex.lock(); }
  ~pool_lock() {
    if (held_) unlock();
  }
  pool_lock(const pool_lock&) = delete;
  pool_lock& operator=(const pool_lock&) = delete;

  void lock() noexcept {
    mutex_.lock();
    held_ = true;
  }
  void unlock() noexcept {
    held_ = false;
    mutex_.unlock();
    if (called_) std::exchange(called_, nullptr)->store(true, std::memory_order_relaxed);
    if (woken_) [[unlikely]]
      std::exchange(woken_, nullptr)->unpark();
  }

  /// Will wake it, once.
  void wakes(parker& sleeper) noexcept {
    if (woken_) woken_->unpark();
    woken_ = &sleeper;
  }
  /// Will set it.
  void calls(std::atomic<bool>& flag) noexcept { called_ = &flag; }

private:
  adaptive_mutex& mutex_;
  bool held_ = true;
  std::atomic<bool>* called_ = nullptr;
  parker* woken_ = nullptr;
};

}  // namespace bothworlds::detail
