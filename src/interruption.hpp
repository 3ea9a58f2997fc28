// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>

namespace bothworlds::detail {

class pool_worker;

/// Interrupts one callable while it runs, and never what its thread runs next.
///
/// The callable's thread calls begin() and end() around it; the awaiting loop calls fire(), once.
/// end() waits for an interruptor that is being called, and eats an interruption that came too late
/// for the callable to see.
class interruption {
public:
  void begin() noexcept;
  void end() noexcept;
  /// Calls `interruptor`, which may be empty, without holding a lock.
  void fire(const std::function<void()>& interruptor) noexcept;
  /// On the callable's thread, after end().
  bool fired() const noexcept { return fired_; }

private:
  std::mutex mutex_;
  std::condition_variable called_;
  pool_worker* worker_ = nullptr;  // mutex_; whose thread runs the callable, if it is a pool's
  bool running_ = false;           // mutex_
  bool calling_ = false;           // mutex_; the interruptor is being called
  bool fired_ = false;             // mutex_, until end()
};

}  // namespace bothworlds::detail
