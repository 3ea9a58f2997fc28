// SPDX-License-Identifier: BSL-1.0
// case: test_async_to_sync_fail_partial: a partially applied coroutine function is refused
// expect: already async
#include <bothworlds/sync_to_async.hpp>

#include <functional>

boost::asio::awaitable<int> coroutine(int);

void wrap() { (void)bothworlds::sync_to_async(std::bind_front(coroutine, 42)); }
