// SPDX-License-Identifier: BSL-1.0
// case: to_async_stream wants a range or a callable that gives an optional
// expect: to_async_stream: give it an input range, or a blocking callable that returns a std::optional
#include <bothworlds/stream.hpp>

int main() {
  auto stream = bothworlds::to_async_stream([] { return 42; });
}
