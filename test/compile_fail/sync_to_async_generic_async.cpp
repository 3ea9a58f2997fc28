// SPDX-License-Identifier: BSL-1.0
// case: test_sync_to_async_fail_async: a generic lambda is found out when it is called
// expect: already async
#include <bothworlds/sync_to_async.hpp>

boost::asio::awaitable<int> coroutine(int);

auto call() {
  auto wrapped = bothworlds::sync_to_async([](auto n) { return coroutine(n); });
  return wrapped(1);
}
