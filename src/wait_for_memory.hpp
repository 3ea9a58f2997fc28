// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <new>
#include <thread>

namespace bothworlds::detail {

/// Between two tries of what cannot be given up: std::bad_alloc has ended the last one, and others may
/// free some.
inline void wait_for_memory() noexcept {
  std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

/// Such a thing as a whole: `attempt` has changed nothing where std::bad_alloc ends it.
template <class Attempt>
void with_memory(Attempt attempt) {
  for (;;) {
    try {
      return attempt();
    } catch (const std::bad_alloc&) {
      wait_for_memory();
    }
  }
}

}  // namespace bothworlds::detail
