// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <bothworlds/blocking_region.hpp>

#include <condition_variable>
#include <mutex>

namespace bothworlds::testing {

/// A thing of which there is one: who wants it while another one has it blocks, and says so.
class only_connection {
public:
  void acquire() {
    blocking_region waiting("for the connection");
    std::unique_lock lock(mutex_);
    freed_.wait(lock, [&] { return !taken_; });
    taken_ = true;
  }
  void release() {
    const std::lock_guard lock(mutex_);
    taken_ = false;
    freed_.notify_one();
  }

private:
  std::mutex mutex_;
  std::condition_variable freed_;
  bool taken_ = false;
};

}  // namespace bothworlds::testing
