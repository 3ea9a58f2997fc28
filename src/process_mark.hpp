// SPDX-License-Identifier: BSL-1.0
//
// In which process something was made: a forked child has a copy of everything, and none of the
// threads but one.
#pragma once

#include <atomic>
#include <cstdint>

namespace bothworlds::detail {

/// What fork_generation() reads: it is asked at every step of a loop. Alone in its cache line.
[[gnu::visibility("hidden")]] alignas(64) extern constinit std::atomic<std::uint32_t> forks;

/// How often this process has been forked off: 0 in the first one.
inline std::uint32_t fork_generation() noexcept { return forks.load(std::memory_order_relaxed); }

/// Of the process in which it is made.
class process_mark {
public:
  /// Whether this is a child that was forked off since.
  bool is_of_parent() const noexcept { return generation_ != fork_generation(); }

private:
  std::uint32_t generation_ = fork_generation();
};

}  // namespace bothworlds::detail
