// SPDX-License-Identifier: BSL-1.0
//
// The waiter and the cook. main() is the waiter: he is blocked until the table has been served. The
// cook is a coroutine, and while one dish is in the oven she can turn to another.

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/sync_to_async.hpp>
#include <bothworlds/task_group.hpp>

#include <chrono>
#include <iostream>
#include <string>
#include <thread>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using bothworlds::async_to_sync;
using bothworlds::sleep_for;
using bothworlds::sync_to_async;
using bothworlds::task_group;
using bothworlds::with_task_group;
using std::chrono::milliseconds;

// Real work, which keeps a pair of hands busy: a thread, that is.
void chop(milliseconds how_long) { std::this_thread::sleep_for(how_long); }

//! [cook]
asio::awaitable<void> cook(std::string dish, milliseconds chopping, milliseconds in_the_oven) {
  std::cout << "  the cook begins the " << dish << std::endl;
  co_await sync_to_async(chop)(chopping);  // blocking: some worker's hands
  co_await sleep_for(in_the_oven);         // only waiting: nobody's hands
  std::cout << "  the waiter serves the " << dish << std::endl;
}
//! [cook]

//! [one_after_another]
asio::awaitable<void> one_after_another() {
  co_await cook("lamb", 50ms, 500ms);
  co_await cook("soup", 50ms, 250ms);
  co_await cook("salad", 50ms, 0ms);
}
//! [one_after_another]

//! [at_once]
asio::awaitable<void> at_once() {
  // Three tasks. The group is left when the last dish has been served.
  auto orders = [](task_group& kitchen) -> asio::awaitable<void> {
    kitchen.spawn(cook("lamb", 50ms, 500ms));
    kitchen.spawn(cook("soup", 50ms, 250ms));
    kitchen.spawn(cook("salad", 50ms, 0ms));
    co_return;
  };
  co_await with_task_group(orders);
}
//! [at_once]

template <class Service>
void serve(const char* how, Service service) {
  std::cout << how << '\n';
  const auto begin = std::chrono::steady_clock::now();
  async_to_sync(service)();
  const auto spent =
      std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - begin);
  std::cout << "  the table has been served after " << spent.count() / 10 * 10 << " ms"
            << std::endl;
}

int main() {
  serve("One dish after another:", one_after_another);
  serve("All at once:", at_once);
}
