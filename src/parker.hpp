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

inline void cpu_relax() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// How many rounds of cpu_relax() a wait may spend before it sleeps: about what a wake across CPUs
/// costs, and none where only one CPU may run this process, so that the other side could not make
/// progress meanwhile.
int spin_rounds() noexcept;

/// Waits a little for what another thread is about to do, where that has paid before: a sleep and a
/// wake cost far more than a short call. Where several CPUs may run this process it spins for about
/// as long as a wake across CPUs takes at the least; where only one may, it yields, so that the
/// other side gets that CPU. What was waited for in vain makes it wait more and more rarely; an
/// idle process does not wait at all.
///
/// For one thread at a time.
class short_wait {
public:
  /// True as soon as `ready()` is; false when it is time to sleep.
  template <class Ready>
  bool operator()(Ready&& ready) noexcept {
    if (skip_ != 0) {
      --skip_;
      return ready();
    }
    bool came = ready();
    if (const int rounds = spin_rounds(); rounds != 0) {
      for (int round = 0; !came && round < rounds; ++round) {
        cpu_relax();
        came = ready();
      }
    } else {
      for (int round = 0; !came && round < 2; ++round) {
        const bool slow = !yield();
        came = ready();
        if (slow) break;
      }
    }
    learn(came);
    return came;
  }

private:
  /// False: it took so long that somebody else's work has had the CPU.
  bool yield() noexcept;
  void learn(bool came) noexcept;

  unsigned in_vain_ = 0;  // how often in a row
  unsigned skip_ = 0;     // so many waits are not made
  bool slow_ = false;     // the last yield was
};

}  // namespace bothworlds::detail
