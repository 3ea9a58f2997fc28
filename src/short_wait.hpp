// SPDX-License-Identifier: BSL-1.0
//
// Waiting awake: for what is about to happen, instead of a sleep, and for more of what has begun to
// come. Each learns from what came of it, so that a wait that does not pay becomes rare.
#pragma once

#include <cstddef>

namespace bothworlds::detail {

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

/// What has paid is done every time; what was in vain, more and more rarely: down to once in 256
/// times.
class learned_habit {
public:
  /// To be asked each time. False: not this time.
  bool now() noexcept {
    if (skip_ == 0) return true;
    --skip_;
    return false;
  }
  /// What now() would say.
  bool is_due() const noexcept { return skip_ == 0; }
  /// What came of it, when it was done.
  void learn(bool paid) noexcept;

private:
  unsigned in_vain_ = 0;  // how often in a row
  unsigned skip_ = 0;     // so many times it is not done
};

/// Waits a little for what another thread is about to do, where that has paid before: a sleep and a
/// wake cost far more than a short call. Where several CPUs may run this process it spins for about
/// as long as a wake across CPUs takes at the least; where only one may, it yields, so that the
/// other side gets that CPU. An idle process does not wait at all.
///
/// For one thread at a time.
class short_wait {
public:
  /// True as soon as `ready()` is; false when it is time to sleep.
  template <class Ready>
  bool operator()(Ready&& ready) noexcept {
    bool came = ready();
    if (!habit_.now()) return came;
    bool slow = false;
    if (const int rounds = spin_rounds(); rounds != 0) {
      for (int round = 0; !came && round < rounds; ++round) {
        cpu_relax();
        came = ready();
      }
    } else {
      for (int round = 0; !came && !slow && round < 2; ++round) {
        slow = !yield();
        came = ready();
      }
    }
    habit_.learn(came && !slow);
    return came;
  }

  /// Whether the next one waits awake.
  bool is_due() const noexcept { return habit_.is_due(); }

private:
  /// False: it took so long that somebody else's work has had the CPU.
  static bool yield() noexcept;

  learned_habit habit_;
};

/// Lets the first of several things wait until no more of them come, where they have come in numbers
/// before: between two CPUs, to take them one by one, each as soon as it is there, makes who hands
/// them over wait for the cache lines of the queue each time. It takes as long as short_wait at the
/// most, and does nothing where only one CPU may run this process.
///
/// For one thread at a time.
class short_gather {
public:
  /// After one thing has come. `more()`: whether another one has since that was last asked. True:
  /// learn() is to be told how many there are now.
  template <class More>
  bool operator()(More&& more) noexcept {
    constexpr int parts = 8;
    const int rounds = spin_rounds() / parts;
    if (rounds == 0 || !habit_.now()) return false;
    int part = 0;
    do {
      for (int round = 0; round < rounds; ++round) cpu_relax();
    } while (more() && ++part < parts);
    return true;
  }
  void learn(std::size_t gathered) noexcept {
    constexpr std::size_t worthwhile = 4;
    habit_.learn(gathered >= worthwhile);
  }

private:
  learned_habit habit_;
};

}  // namespace bothworlds::detail
