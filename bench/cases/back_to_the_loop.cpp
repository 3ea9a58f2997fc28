// SPDX-License-Identifier: BSL-1.0
//
// B8: blocking code on a worker calls coroutines of the loop that awaits it, one after another.
#include "baselines/asio_by_an_expert.hpp"
#include "baselines/hand_over.hpp"
#include "cases.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/sync_to_async.hpp>

#include <boost/asio/use_future.hpp>

namespace bench {
namespace b8 {

namespace asio = boost::asio;

asio::awaitable<int> ready() { co_return 42; }

int in_a_row(std::size_t calls) {
  const auto call = bothworlds::async_to_sync(ready);
  int last = 0;
  while (calls-- != 0) last = call();
  return last;
}

asio::awaitable<int> offloaded(std::size_t calls) {
  co_return co_await bothworlds::sync_to_async(in_a_row)(calls);
}

struct ours {
  void run(std::size_t calls) { keep(bothworlds::async_to_sync(offloaded)(calls)); }
};

struct by_an_expert {
  void run(std::size_t calls) {
    keep(asio_by_an_expert::block_on([&] { return walk(pool, calls); }));
  }
  static asio::awaitable<int> walk(asio::thread_pool& pool, std::size_t calls) {
    const asio::any_io_executor loop = co_await asio::this_coro::executor;
    const auto call = [&loop, calls] {
      int last = 0;
      for (std::size_t i = 0; i < calls; ++i)
        last = asio::co_spawn(loop, ready(), asio::use_future).get();
      return last;
    };
    co_return co_await asio_by_an_expert::offload(pool, call, asio::deferred);
  }
  asio::thread_pool pool;
};

struct limit {
  void run(std::size_t calls) {
    while (calls-- != 0) other.round_trip();
  }
  hand_over other{waiting::by_futex};
};

}  // namespace b8

void add_back_to_the_loop(registry& cases) {
  cases.add<b8::ours>("B8/bothworlds", 1, 500);
  cases.add<b8::by_an_expert>("B8/Asio by an expert", 1, 100);
  cases.add<b8::limit>("B8/raw futex", 1, 100);
}

}  // namespace bench
