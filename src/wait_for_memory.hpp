// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <thread>

namespace bothworlds::detail {

/// Between two tries of what cannot be given up: std::bad_alloc has ended the last one, and others may
/// free some.
inline void wait_for_memory() noexcept {
  std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

}  // namespace bothworlds::detail
