// SPDX-License-Identifier: BSL-1.0
// case: a call that is made and dropped draws a warning
// flavor: warning
// expect-regex: co_await it|\[-Wunused-result\]
// (clang 19 forgets the reason that an attribute gives where the function is a template.)
#include <bothworlds/sync_to_async.hpp>

void call() {
  auto wrapped = bothworlds::sync_to_async([] {});
  wrapped();
}
