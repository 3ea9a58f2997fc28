// SPDX-License-Identifier: BSL-1.0
// case: async_offload refuses a coroutine function
// expect: already async
#include <bothworlds/sync_to_async.hpp>

boost::asio::awaitable<int> coroutine();

void wrap() {
  bothworlds::async_offload(coroutine, [](std::exception_ptr, int) {});
}
