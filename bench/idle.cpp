// SPDX-License-Identifier: BSL-1.0
//
// Is idle: has used both bridges, and then waits in async_to_sync for something that does not come.
// Says "idle" when it begins to. Who started it looks at its threads, and ends it.
#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/sync_to_async.hpp>

#include <boost/asio/deferred.hpp>
#include <boost/asio/steady_timer.hpp>

#include <chrono>
#include <cstdio>

namespace {

namespace asio = boost::asio;

int nothing() { return 42; }

asio::awaitable<void> work_and_wait() {
  const auto plain = bothworlds::sync_to_async(nothing);
  const auto sensitive = bothworlds::sync_to_async(nothing, {.thread_sensitive = true});
  for (int call = 0; call < 100; ++call) {
    co_await plain();
    co_await sensitive();
  }
  std::puts("idle");
  std::fflush(stdout);
  asio::steady_timer never(co_await asio::this_coro::executor, std::chrono::hours(1));
  co_await never.async_wait(asio::deferred);
}

}  // namespace

int main() { bothworlds::async_to_sync(work_and_wait)(); }
