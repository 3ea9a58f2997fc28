// SPDX-License-Identifier: BSL-1.0
//
// A task that fails, and whose error nobody asks for: it is told on stderr with the place where the
// task was made.

#include <bothworlds/run.hpp>
#include <bothworlds/task_group.hpp>

#include <iostream>
#include <stdexcept>

namespace asio = boost::asio;
using bothworlds::create_task;

asio::awaitable<void> deliver() {
  throw std::runtime_error("nobody at the door");
  co_return;
}

asio::awaitable<void> async_main() {
  co_await create_task(deliver());  // gives the task; join() on that would give its error
  std::cout << "done" << std::endl;
}

int main() { bothworlds::run(async_main); }
