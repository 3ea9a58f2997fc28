// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace bothworlds::detail {

/// One thread sleeps here until another one wakes it. A wake that comes first is remembered, once.
///
/// state_ holds: empty (nobody sleeps, nothing happened), parked (the owner sleeps or is about to), token (a wake
/// that the owner has not consumed yet). Only the owner parks; anybody unparks.
class parker {
public:
  using clock = std::chrono::steady_clock;

  /// Returns after a wake, at once if there was one since the last return.
  void park() noexcept;
  /// As park(); false if `deadline` passed first.
  bool park_until(clock::time_point deadline) noexcept;
  /// After the exchange in here nothing of the parker is read or written: its owner may be gone.
  void unpark() noexcept;

private:
  enum : std::uint32_t { empty, parked, token };

  bool sleep(const clock::time_point* deadline) noexcept;

  std::atomic<std::uint32_t> state_{empty};
};

/// How many rounds of cpu_relax() a wait may spend before it sleeps: about what a wake across CPUs costs, and
/// none where only one CPU may run this process, so that the other side could not make progress meanwhile.
int spin_rounds() noexcept;

inline void cpu_relax() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace bothworlds::detail
