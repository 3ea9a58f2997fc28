// SPDX-License-Identifier: BSL-1.0
//
// A call that is made and dropped does nothing. The compiler warns where it is dropped at once; with
// BOTHWORLDS_DEBUG=1 in the environment the library says where any other was made.

#include <bothworlds/run.hpp>
#include <bothworlds/sync_to_async.hpp>

#include <iostream>

namespace asio = boost::asio;
using bothworlds::sync_to_async;

void save() { std::cout << "saved" << std::endl; }

asio::awaitable<void> async_main() {
  auto saving = sync_to_async(save)();  // no co_await: save() is never called
  std::cout << "done" << std::endl;
  co_return;
}

int main() { bothworlds::run(async_main); }
