// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "process_mark.hpp"

#include <atomic>
#include <memory>

namespace bothworlds::detail {

/// The one T of this process, made at first use and never destroyed, because a thread of the
/// library may be at work while the process ends. A forked child makes its own: in the parent's
/// one, locks may be held by threads that do not exist there. Constant-initialised; any thread.
template <class T>
class per_process {
public:
  constexpr per_process() = default;

  /// Throws std::bad_alloc, and what T's constructor throws.
  T& get() {
    made* known = current_.load(std::memory_order_acquire);
    if (known && !known->process.is_of_parent()) return known->instance;
    auto fresh = std::make_unique<made>();
    if (current_.compare_exchange_strong(known, fresh.get(), std::memory_order_acq_rel))
      return fresh.release()->instance;
    return known->instance;
  }
  /// Null: it has not been made yet.
  T* find() const noexcept {
    made* const known = current_.load(std::memory_order_acquire);
    return known && !known->process.is_of_parent() ? &known->instance : nullptr;
  }

private:
  struct made {
    process_mark process;
    T instance;
  };
  std::atomic<made*> current_{nullptr};
};

}  // namespace bothworlds::detail
