// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sys/types.h>

namespace bothworlds::testing {

// The kernel's id of the calling thread. Out of line on purpose: a compiler may keep
// std::this_thread::get_id() in a register across a co_await, and the test would then compare a
// thread with itself.
[[gnu::noinline]] pid_t kernel_thread_id() noexcept;

// The number of threads of this process right now, as the kernel counts them (the watchdog's own
// included).
[[gnu::noinline]] int kernel_thread_count();

}  // namespace bothworlds::testing
