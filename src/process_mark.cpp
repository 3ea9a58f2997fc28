// SPDX-License-Identifier: BSL-1.0
#include "process_mark.hpp"

#include <pthread.h>

namespace bothworlds::detail {

alignas(64) constinit std::atomic<std::uint32_t> forks{0};

namespace {

// Registered before the first thread of the library can exist.
[[maybe_unused]] const int fork_handler =
    ::pthread_atfork(nullptr, nullptr, [] { forks.fetch_add(1, std::memory_order_relaxed); });

}  // namespace

}  // namespace bothworlds::detail
