// SPDX-License-Identifier: BSL-1.0
// case: to_sync_range wants an object with an async next()
// expect: to_sync_range: give it an object with a member next() that returns an awaitable of a std::optional
#include <bothworlds/stream.hpp>

struct blocking_source {
  int next() { return 42; }
};

int main() { auto range = bothworlds::to_sync_range(blocking_source()); }
