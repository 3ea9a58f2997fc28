// SPDX-License-Identifier: BSL-1.0
// case: test_async_to_sync_fail_non_function: async_to_sync refuses an awaitable itself
// expect: not callable
// expect: not the awaitable itself
#include <bothworlds/async_to_sync.hpp>

boost::asio::awaitable<int> coroutine();

void wrap() { (void)bothworlds::async_to_sync(coroutine()); }
