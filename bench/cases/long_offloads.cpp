// SPDX-License-Identifier: BSL-1.0
//
// B9: offloads that use the CPU for a while: what the crossing adds to their time, and to the CPU
// time of the process.
#include "baselines/asio_by_an_expert.hpp"
#include "cases.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/sync_to_async.hpp>

#include <chrono>
#include <string>

namespace bench {
namespace b9 {

namespace asio = boost::asio;

int busy_for(std::chrono::nanoseconds time) {
  const auto end = std::chrono::steady_clock::now() + time;
  while (std::chrono::steady_clock::now() < end) {
  }
  return 42;
}

struct ours {
  explicit ours(std::chrono::nanoseconds time_) : time(time_) {}
  void run(std::size_t calls) { keep(bothworlds::async_to_sync(walk)(time, calls)); }
  static asio::awaitable<int> walk(std::chrono::nanoseconds time, std::size_t calls) {
    const auto call = bothworlds::sync_to_async(busy_for);
    int last = 0;
    while (calls-- != 0) last = co_await call(time);
    co_return last;
  }
  const std::chrono::nanoseconds time;
};

struct by_an_expert {
  explicit by_an_expert(std::chrono::nanoseconds time_) : time(time_) {}
  by_an_expert(std::chrono::nanoseconds time_, std::size_t threads) : time(time_), pool(threads) {}
  void run(std::size_t calls) {
    keep(asio_by_an_expert::block_on([&] { return walk(pool, time, calls); }));
  }
  static asio::awaitable<int> walk(asio::thread_pool& pool, std::chrono::nanoseconds time,
                                   std::size_t calls) {
    const auto call = [time] { return busy_for(time); };
    int last = 0;
    while (calls-- != 0) last = co_await asio_by_an_expert::offload(pool, call, asio::deferred);
    co_return last;
  }
  const std::chrono::nanoseconds time;
  asio::thread_pool pool;
};

}  // namespace b9

void add_long_offloads(registry& cases) {
  for (const int microseconds : {1, 10, 100, 1000}) {
    const auto suffix = ", " + std::to_string(microseconds) + " µs";
    const std::chrono::nanoseconds time = std::chrono::microseconds(microseconds);
    cases.add<b9::ours>("B9/bothworlds" + suffix, 1, 20, time);
    cases.add<b9::by_an_expert>("B9/Asio by an expert" + suffix, 1, 20, time);
    // With one there is none to choose: of several, the kernel mostly leaves one on the loop's CPU.
    cases.add<b9::by_an_expert>("B9/Asio by an expert on one thread" + suffix, 1, 20, time,
                                std::size_t{1});
  }
}

}  // namespace bench
