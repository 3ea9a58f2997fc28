// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace bothworlds::detail {

/// One thread sleeps here until another one wakes it. A wake that comes first is remembered, once.
///
/// state_ holds: empty (nobody sleeps, nothing happened), parked (the owner sleeps or is about to),
/// token (a wake that the owner has not consumed yet). Only the owner parks; anybody unparks.
class parker {
public:
  using clock = std::chrono::steady_clock;

  /// Returns after a wake, at once if there was one since the last return.
  void park() noexcept;
  /// As park(); false if `deadline` passed first.
  bool park_until(clock::time_point deadline) noexcept;
  /// The owner: whether park() would return at once.
  bool is_woken() const noexcept { return state_.load(std::memory_order_acquire) == token; }
  /// The owner, who does not sleep: a wake that has come counts as consumed.
  void forget_wake() noexcept {
    // As in sleep(), not by a store.
    if (is_woken()) state_.exchange(empty, std::memory_order_acq_rel);
  }
  /// After the exchange in here nothing of the parker is read or written: its owner may be gone.
  void unpark() noexcept;

private:
  enum : std::uint32_t { empty, parked, token };

  bool sleep(const clock::time_point* deadline) noexcept;

  std::atomic<std::uint32_t> state_{empty};
};

}  // namespace bothworlds::detail
