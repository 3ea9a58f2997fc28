// SPDX-License-Identifier: BSL-1.0
//
// B4: a thousand coroutines of one loop, each with a hundred callables, one after another, that do
// nothing. The curve is the same with 1 to 100,000 coroutines: the cost of a call must not depend
// on how many are in flight.
#include "baselines/asio_as_written.hpp"
#include "baselines/asio_by_an_expert.hpp"
#include "cases.hpp"
#include "countdown.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/sync_to_async.hpp>

#include <boost/asio/detached.hpp>
#include <boost/asio/this_coro.hpp>

#include <future>
#include <vector>

namespace bench {

namespace b4 {

namespace asio = boost::asio;

int nothing() { return 42; }

/// Starts `coroutines` of them with `each` calls, and waits for all. Call() makes the awaitable of
/// one call.
template <class Call>
asio::awaitable<int> one_of_many(Call& call, std::size_t each, countdown& left) {
  int last = 0;
  while (each-- != 0) last = co_await call();
  left.one_less();
  co_return last;
}

template <class Call>
asio::awaitable<int> many(Call call, std::size_t coroutines, std::size_t each) {
  const auto executor = co_await asio::this_coro::executor;
  countdown left(coroutines);
  // Asio runs the beginning of each at once; none can end before this coroutine waits, because all
  // of them have a call in flight by then and this thread is their loop.
  for (std::size_t i = 0; i < coroutines; ++i)
    asio::co_spawn(executor, one_of_many(call, each, left), asio::detached);
  co_await left.reached();
  co_return 0;
}

struct ours {
  ours(std::size_t coroutines_, std::size_t each_) : coroutines(coroutines_), each(each_) {}
  void run(std::size_t rounds) {
    const auto root = [this] { return many(bothworlds::sync_to_async(nothing), coroutines, each); };
    while (rounds-- != 0) keep(bothworlds::async_to_sync(root)());
  }
  const std::size_t coroutines, each;
};

struct as_written {
  as_written(std::size_t coroutines_, std::size_t each_) : coroutines(coroutines_), each(each_) {}
  void run(std::size_t rounds) {
    const auto call = [this] { return asio_as_written::offload(pool, nothing); };
    while (rounds-- != 0)
      keep(asio_as_written::block_on([&] { return many(call, coroutines, each); }));
  }
  const std::size_t coroutines, each;
  asio::thread_pool pool;
};

struct by_an_expert {
  by_an_expert(std::size_t coroutines_, std::size_t each_) : coroutines(coroutines_), each(each_) {}
  void run(std::size_t rounds) {
    const auto call = [this] { return asio_by_an_expert::offload(pool, nothing, asio::deferred); };
    while (rounds-- != 0)
      keep(asio_by_an_expert::block_on([&] { return many(call, coroutines, each); }));
  }
  const std::size_t coroutines, each;
  asio::thread_pool pool;
};

/// As many futures at once.
struct by_std_async {
  explicit by_std_async(std::size_t in_flight) { futures.reserve(in_flight); }
  void run(std::size_t rounds) {
    while (rounds-- != 0) {
      while (futures.size() < futures.capacity())
        futures.push_back(std::async(std::launch::async, nothing));
      for (auto& future : futures) keep(future.get());
      futures.clear();
    }
  }
  std::vector<std::future<int>> futures;
};

}  // namespace b4

void add_many_offloads(registry& cases) {
  constexpr std::size_t coroutines = 1000, each = 100;
  cases.add<b4::ours>("B4/bothworlds", coroutines * each, 1, coroutines, each);
  cases.longer<b4::ours>(coroutines, 2 * each);
  cases.add<b4::as_written>("B4/Asio as written", coroutines * each, 1, coroutines, each);
  cases.longer<b4::as_written>(coroutines, 2 * each);
  cases.add<b4::by_an_expert>("B4/Asio by an expert", coroutines * each, 1, coroutines, each);
  cases.longer<b4::by_an_expert>(coroutines, 2 * each);
  cases.add<b4::by_std_async>("B4/std::async", coroutines, 1, coroutines);
  for (const std::size_t in_flight : {1, 10, 100, 1'000, 10'000, 100'000}) {
    // Long enough that starting the coroutines does not count, short enough for a figure of its
    // own.
    const std::size_t calls = in_flight < 1000 ? 1000 : 10;
    const auto x = "/" + std::to_string(in_flight);
    cases.add<b4::ours>("in_flight/bothworlds" + x, in_flight * calls, 1, in_flight, calls);
    cases.add<b4::by_an_expert>("in_flight/Asio by an expert" + x, in_flight * calls, 1, in_flight,
                                calls);
  }
}

}  // namespace bench
