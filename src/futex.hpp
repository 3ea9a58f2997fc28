// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <atomic>
#include <cstdint>
#include <ctime>

namespace bothworlds::detail {

/// Sleeps while `word` is `expected`, until a wake, a signal, or `deadline` on steady_clock's clock;
/// null: no deadline. False: the deadline has passed.
bool futex_wait(const std::atomic<std::uint32_t>& word, std::uint32_t expected,
                const timespec* deadline = nullptr) noexcept;
/// Wakes one of those that sleep there. Neither reads nor writes the word.
void futex_wake(const std::atomic<std::uint32_t>& word) noexcept;

}  // namespace bothworlds::detail
