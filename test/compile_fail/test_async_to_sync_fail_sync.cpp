// SPDX-License-Identifier: BSL-1.0
// case: test_async_to_sync_fail_sync: async_to_sync refuses a blocking function
// expect: is blocking
#include <bothworlds/async_to_sync.hpp>

int blocking();

void wrap() { (void)bothworlds::async_to_sync(blocking); }
