// SPDX-License-Identifier: BSL-1.0
// case: test_async_to_sync_fail_non_function: async_to_sync refuses what is not callable
// expect: not callable
// reject: no matching function
#include <bothworlds/async_to_sync.hpp>

void wrap() { (void)bothworlds::async_to_sync(1); }
