// SPDX-License-Identifier: BSL-1.0
// case: test_async_to_sync_fail_sync: a generic lambda is found out when it is called
// expect: is blocking
#include <bothworlds/async_to_sync.hpp>

void call() {
  auto wrapped = bothworlds::async_to_sync([](auto n) { return n + 1; });
  wrapped(1);
}
