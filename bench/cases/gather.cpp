// SPDX-License-Identifier: BSL-1.0
//
// B12: a coroutine gathers the results of a thousand others, again and again, on one loop; per
// coroutine. The expert spawns them with a counter and a place for each result: no cancellation, no
// first error that ends the others. Asio's parallel group has those.
#include "baselines/asio_by_an_expert.hpp"
#include "cases.hpp"
#include "countdown.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/gather.hpp>

#include <boost/asio/experimental/parallel_group.hpp>
#include <boost/asio/this_coro.hpp>

#include <vector>

namespace bench {
namespace b12 {

namespace asio = boost::asio;

constexpr std::size_t members = 1000;

asio::awaitable<int> ready() { co_return 42; }

asio::awaitable<int> yielding() {
  co_await asio::post(asio::deferred);
  co_return 42;
}

using member = asio::awaitable<int> (*)();

asio::awaitable<int> again_and_again(member one, std::size_t rounds) {
  int last = 0;
  while (rounds-- != 0) {
    std::vector<asio::awaitable<int>> all;
    all.reserve(members);
    for (std::size_t i = 0; i < members; ++i) all.push_back(one());
    const std::vector<int> results = co_await bothworlds::gather(std::move(all));
    last = results.back();
  }
  co_return last;
}

asio::awaitable<int> spawned(member one, std::size_t rounds) {
  const auto executor = co_await asio::this_coro::executor;
  std::vector<int> results(members);
  while (rounds-- != 0) {
    // One more, for this coroutine: those that are ready end before it waits.
    countdown left(members + 1);
    for (std::size_t i = 0; i < members; ++i)
      asio::co_spawn(executor, one(), [&left, place = &results[i]](std::exception_ptr, int result) {
        *place = result;
        left.one_less();
      });
    asio::post(executor, [&left] { left.one_less(); });
    co_await left.reached();
  }
  co_return results.back();
}

asio::awaitable<int> grouped(member one, std::size_t rounds) {
  const auto executor = co_await asio::this_coro::executor;
  int last = 0;
  while (rounds-- != 0) {
    std::vector<decltype(asio::co_spawn(executor, one(), asio::deferred))> all;
    all.reserve(members);
    for (std::size_t i = 0; i < members; ++i)
      all.push_back(asio::co_spawn(executor, one(), asio::deferred));
    auto group = asio::experimental::make_parallel_group(std::move(all));
    const auto [order, failures, results] =
        co_await group.async_wait(asio::experimental::wait_for_one_error(), asio::deferred);
    last = results.back();
  }
  co_return last;
}

struct ours {
  explicit ours(member one_) : one(one_) {}
  void run(std::size_t rounds) { keep(bothworlds::async_to_sync(again_and_again)(one, rounds)); }
  const member one;
};

struct by_an_expert {
  explicit by_an_expert(member one_) : one(one_) {}
  void run(std::size_t rounds) {
    keep(asio_by_an_expert::block_on([&] { return spawned(one, rounds); }));
  }
  const member one;
};

struct by_parallel_group {
  explicit by_parallel_group(member one_) : one(one_) {}
  void run(std::size_t rounds) {
    keep(asio_by_an_expert::block_on([&] { return grouped(one, rounds); }));
  }
  const member one;
};

}  // namespace b12

void add_gather(registry& cases) {
  using namespace b12;
  for (const auto& [name, one] : {std::pair{"ready", &ready}, std::pair{"yielding", &yielding}}) {
    const std::string variant = std::string(", ") + name;
    cases.add<ours>("B12/bothworlds" + variant, members, 2, one);
    cases.add<by_an_expert>("B12/Asio by an expert" + variant, members, 2, one);
    cases.add<by_parallel_group>("B12/Asio's parallel group" + variant, members, 2, one);
  }
}

}  // namespace bench
