// SPDX-License-Identifier: BSL-1.0
// case: run refuses what is no coroutine function
// expect: run: give it a function without parameters that returns an asio::awaitable
#include <bothworlds/run.hpp>

int main() {
  bothworlds::run([] { return 1; });
}
