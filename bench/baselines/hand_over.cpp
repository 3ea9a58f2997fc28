// SPDX-License-Identifier: BSL-1.0
#include "baselines/hand_over.hpp"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace bench {

int usable_cpus() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  return ::sched_getaffinity(0, sizeof mask, &mask) == 0 ? CPU_COUNT(&mask) : 1;
}

hand_over::hand_over(waiting how) : how_(how), thread_([this] { answer(); }) {}

hand_over::~hand_over() {
  ending_.store(true, std::memory_order_relaxed);
  publish(request_, ++round_);
  thread_.join();
}

void hand_over::round_trip() {
  publish(request_, ++round_);
  wait_for(reply_, round_);
}

void hand_over::answer() {
  for (std::uint32_t round = 1;; ++round) {
    wait_for(request_, round);
    if (ending_.load(std::memory_order_relaxed)) return;
    publish(reply_, round);
  }
}

void hand_over::wait_for(std::atomic<std::uint32_t>& word, std::uint32_t value) {
  for (;;) {
    const std::uint32_t seen = word.load(std::memory_order_acquire);
    if (seen == value) return;
    if (how_ == waiting::by_futex)
      ::syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, seen, nullptr, nullptr, 0);
#if defined(__x86_64__)
    else
      __builtin_ia32_pause();
#endif
  }
}

void hand_over::publish(std::atomic<std::uint32_t>& word, std::uint32_t value) {
  word.store(value, std::memory_order_release);
  if (how_ == waiting::by_futex)
    ::syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}

}  // namespace bench
