// SPDX-License-Identifier: BSL-1.0
// case: async_to_sync: a call with the wrong arguments names the condition that it fails
// expect: is_invocable_v
#include <bothworlds/async_to_sync.hpp>

boost::asio::awaitable<void> coroutine(int& n);

void call() {
  int n = 0;
  bothworlds::async_to_sync(coroutine)(n);
}
