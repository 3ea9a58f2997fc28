// SPDX-License-Identifier: BSL-1.0
//
// Two tasks: the second does not wait for the first one's two seconds.

//! [two_tasks]
#include <bothworlds/run.hpp>
#include <bothworlds/task_group.hpp>

#include <chrono>
#include <iostream>
#include <string>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using bothworlds::create_task;
using bothworlds::sleep_for;
using bothworlds::task;

asio::awaitable<void> say_after(std::chrono::milliseconds delay, std::string what) {
  co_await sleep_for(delay);
  std::cout << what << std::endl;
}

asio::awaitable<void> async_main() {
  task<void> slow = co_await create_task(say_after(2s, "world"));
  task<void> quick = co_await create_task(say_after(1s, "hello"));
  co_await slow.join();  // by now both have run
  co_await quick.join();
}

int main() { bothworlds::run(async_main); }
//! [two_tasks]
