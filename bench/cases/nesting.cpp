// SPDX-License-Identifier: BSL-1.0
//
// B5: blocking code calls a coroutine that calls blocking code, down to a depth, with a pool of two
// workers. A level is one async_to_sync and one sync_to_async. Nobody else completes depth 8 with a
// pool of two; Asio gets a thread for each level.
#include "baselines/asio_by_an_expert.hpp"
#include "cases.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/sync_to_async.hpp>
#include <bothworlds/worker_pool.hpp>

#include <boost/asio/use_future.hpp>

#include <string>

namespace bench {
namespace b5 {

namespace asio = boost::asio;

struct ours {
  explicit ours(int depth_) : depth(depth_) {}
  void run(std::size_t rounds) {
    while (rounds-- != 0) keep(blocking(*this, depth));
  }
  static int blocking(ours& self, int left) {
    return left == 0 ? 0 : bothworlds::async_to_sync(coroutine)(std::ref(self), left);
  }
  static asio::awaitable<int> coroutine(ours& self, int left) {
    const auto call = bothworlds::sync_to_async(blocking, {.pool = &self.pool});
    co_return 1 + co_await call(std::ref(self), left - 1);
  }
  const int depth;
  bothworlds::worker_pool pool{{.soft_limit = 2}};
};

struct by_an_expert {
  by_an_expert(int depth_, std::size_t threads) : depth(depth_), pool(threads) {}
  void run(std::size_t rounds) {
    while (rounds-- != 0)
      keep(asio_by_an_expert::block_on([this] { return coroutine(*this, depth); }));
  }
  static int blocking(by_an_expert& self, asio::any_io_executor loop, int left) {
    return left == 0 ? 0 : asio::co_spawn(loop, coroutine(self, left), asio::use_future).get();
  }
  static asio::awaitable<int> coroutine(by_an_expert& self, int left) {
    const auto loop = co_await asio::this_coro::executor;
    const auto call = [&self, loop, left] { return blocking(self, loop, left - 1); };
    co_return 1 + co_await asio_by_an_expert::offload(self.pool, call, asio::deferred);
  }
  const int depth;
  asio::thread_pool pool;
};

}  // namespace b5

void add_nesting(registry& cases) {
  for (const int depth : {1, 8, 64, 1000}) {
    const auto levels = static_cast<std::size_t>(depth);
    const auto suffix = ", depth " + std::to_string(depth);
    cases.add<b5::ours>("B5/bothworlds" + suffix, levels, 2, depth);
    if (depth <= 8)
      cases.add<b5::by_an_expert>("B5/Asio by an expert" + suffix + ", pool of 16", levels, 2,
                                  depth, std::size_t{16});
  }
}

}  // namespace bench
