// SPDX-License-Identifier: BSL-1.0
//
// Say one line, wait two seconds, say another: a coroutine, called from a plain main().

//! [wicked]
#include <bothworlds/async_to_sync.hpp>

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <iostream>

namespace asio = boost::asio;

asio::awaitable<void> recite() {
  std::cout << "By the pricking of my thumbs," << std::endl;
  asio::steady_timer timer(co_await asio::this_coro::executor, std::chrono::seconds(2));
  co_await timer.async_wait(asio::use_awaitable);
  std::cout << "something wicked this way comes." << std::endl;
}

int main() {
  bothworlds::async_to_sync(recite)();  // no loop to set up, no thread to start
}
//! [wicked]
