// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <bothworlds/detail/work.hpp>

#include <atomic>
#include <cstdint>

namespace bothworlds::detail {

/// Where a thread that waits is handed one piece of work, in one step and by whoever is first.
///
/// held_ holds: closed, a key (open, for those who know it), or an item with `filled` (it has been
/// handed over, with a reference). The one who waits opens and closes it, anybody fills it.
class work_slot {
public:
  /// Neither 0, nor odd.
  using key = std::uintptr_t;

  void open(key what) noexcept { held_.store(what, std::memory_order_release); }
  /// For what it is open; 0: it is closed, or filled.
  key open_for() const noexcept {
    const std::uintptr_t held = held_.load(std::memory_order_relaxed);
    return (held & filled) != 0 ? closed : held;
  }
  /// To be asked by the one who opens it.
  bool is_closed() const noexcept { return held_.load(std::memory_order_relaxed) == closed; }
  bool is_filled() const noexcept { return (held_.load(std::memory_order_relaxed) & filled) != 0; }
  /// False: it is not open for that, or no more; nothing has happened.
  bool put(work& item, key what) noexcept {
    if (what == closed || held_.load(std::memory_order_relaxed) != what) return false;
    intrusive_ptr_add_ref(&item);  // of the slot; before the one who waits may look at it
    if (held_.compare_exchange_strong(what, reinterpret_cast<std::uintptr_t>(&item) | filled,
                                      std::memory_order_acq_rel, std::memory_order_relaxed))
      return true;
    intrusive_ptr_release(&item);
    return false;
  }
  /// What has been handed over, with its reference, and not claimed; null: nothing.
  work* close() noexcept {
    if (held_.load(std::memory_order_relaxed) == closed) return nullptr;
    const std::uintptr_t held = held_.exchange(closed, std::memory_order_acq_rel);
    return (held & filled) != 0 ? reinterpret_cast<work*>(held & ~filled) : nullptr;
  }

private:
  static constexpr std::uintptr_t closed = 0, filled = 1;

  std::atomic<std::uintptr_t> held_{closed};
};

}  // namespace bothworlds::detail
