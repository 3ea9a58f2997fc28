// SPDX-License-Identifier: BSL-1.0
#include "short_wait.hpp"

#include <algorithm>
#include <chrono>

#include <sched.h>

namespace bothworlds::detail {
namespace {

int usable_cpus() noexcept {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (::sched_getaffinity(0, sizeof mask, &mask) != 0) return 1;
  return CPU_COUNT(&mask);
}

}  // namespace

int spin_rounds() noexcept {
  // About 10 microseconds: as long as a futex wake on a virtual machine takes at the least. Asked
  // once: a process that is pinned later merely spins a little in vain.
  static const int rounds = usable_cpus() > 1 ? 400 : 0;
  return rounds;
}

void learned_habit::learn(bool paid) noexcept {
  constexpr unsigned most_in_vain = 8;
  in_vain_ = paid ? 0 : std::min(in_vain_ + 1, most_in_vain);
  skip_ = (1U << in_vain_) - 1;
}

bool short_wait::yield() noexcept {
  using clock = std::chrono::steady_clock;
  const auto before = clock::now();
  ::sched_yield();
  return clock::now() - before <= std::chrono::milliseconds(1);
}

}  // namespace bothworlds::detail
