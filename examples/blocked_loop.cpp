// SPDX-License-Identifier: BSL-1.0
//
// A blocking call where it does not belong. With BOTHWORLDS_DEBUG=1 in the environment the library
// says at which line the loop stands still.

#include <bothworlds/run.hpp>
#include <bothworlds/sync_to_async.hpp>

#include <chrono>
#include <iostream>
#include <thread>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using bothworlds::sync_to_async;

int read_sensor() {
  std::this_thread::sleep_for(1s);  // as slow devices do
  return 21;
}

asio::awaitable<void> async_main() {
  const int badly = read_sensor();  // holds the loop: nothing else can happen on it
  const int well = co_await sync_to_async(read_sensor)();
  std::cout << badly + well << std::endl;
}

int main() { bothworlds::run(async_main); }
