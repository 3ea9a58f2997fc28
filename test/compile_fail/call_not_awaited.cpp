// SPDX-License-Identifier: BSL-1.0
// case: a call that is made and dropped draws a warning
// flavor: warning
// expect: co_await it
#include <bothworlds/sync_to_async.hpp>

void call() {
  auto wrapped = bothworlds::sync_to_async([] {});
  wrapped();
}
