// SPDX-License-Identifier: BSL-1.0
// case: test_sync_to_async_fail_non_function: sync_to_async refuses what is not callable
// expect: not callable
// reject: no matching function
#include <bothworlds/sync_to_async.hpp>

void wrap() { (void)bothworlds::sync_to_async(1); }
