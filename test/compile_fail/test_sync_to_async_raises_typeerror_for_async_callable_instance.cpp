// SPDX-License-Identifier: BSL-1.0
//
// case: test_sync_to_async_raises_typeerror_for_async_callable_instance: an async call operator
// expect: already async
#include <bothworlds/sync_to_async.hpp>

struct async_callable_object {
  boost::asio::awaitable<void> operator()() const;
};

void wrap() { (void)bothworlds::sync_to_async(async_callable_object{}); }
