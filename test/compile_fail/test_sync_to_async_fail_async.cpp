// SPDX-License-Identifier: BSL-1.0
// case: test_sync_to_async_fail_async: sync_to_async refuses a coroutine function
// expect: already async
// expect: co_await
#include <bothworlds/sync_to_async.hpp>

boost::asio::awaitable<int> coroutine();

void wrap() { (void)bothworlds::sync_to_async(coroutine); }
