// SPDX-License-Identifier: BSL-1.0
//
// The waiter and the cook. main() is the waiter: he is blocked until the table has been served. The
// cook is a coroutine, and while one dish is in the oven she can turn to another.

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/sync_to_async.hpp>

#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <chrono>
#include <iostream>
#include <string>
#include <thread>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using bothworlds::async_to_sync;
using bothworlds::sync_to_async;
using std::chrono::milliseconds;

// Real work, which keeps a pair of hands busy: a thread, that is.
void chop(milliseconds how_long) { std::this_thread::sleep_for(how_long); }

//! [cook]
asio::awaitable<void> cook(std::string dish, milliseconds chopping, milliseconds in_the_oven) {
  std::cout << "  the cook begins the " << dish << std::endl;
  co_await sync_to_async(chop)(chopping);  // blocking: some worker's hands
  asio::steady_timer oven(co_await asio::this_coro::executor, in_the_oven);
  co_await oven.async_wait(asio::use_awaitable);  // only waiting: nobody's hands
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
  using namespace asio::experimental::awaitable_operators;
  co_await (cook("lamb", 50ms, 500ms) && cook("soup", 50ms, 250ms) && cook("salad", 50ms, 0ms));
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
