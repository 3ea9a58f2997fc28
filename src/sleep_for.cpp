// SPDX-License-Identifier: BSL-1.0
#include <bothworlds/timeout.hpp>

#include <boost/asio/deferred.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace bothworlds {

asio::awaitable<void> sleep_for(std::chrono::steady_clock::duration how_long) {
  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  if (how_long <= how_long.zero()) co_return;
  const auto now = std::chrono::steady_clock::now();
  const auto never = std::chrono::steady_clock::time_point::max();
  asio::steady_timer timer(executor, how_long >= never - now ? never : now + how_long);
  co_await timer.async_wait(asio::use_awaitable);
}

}  // namespace bothworlds
