// SPDX-License-Identifier: BSL-1.0
// case: sync_to_async: a call with the wrong arguments names the condition that it fails
// expect: callable_with_copies
#include <bothworlds/sync_to_async.hpp>

void increment(int& n);

auto call() {
  int n = 0;
  auto wrapped = bothworlds::sync_to_async(increment);
  return wrapped(n);
}
