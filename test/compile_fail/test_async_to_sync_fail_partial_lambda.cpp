// SPDX-License-Identifier: BSL-1.0
// case: test_async_to_sync_fail_partial: a lambda that returns an awaitable is refused
// expect: already async
#include <bothworlds/sync_to_async.hpp>

boost::asio::awaitable<int> coroutine(int);

void wrap() {
  int n = 42;
  (void)bothworlds::sync_to_async([n] { return coroutine(n); });
}
