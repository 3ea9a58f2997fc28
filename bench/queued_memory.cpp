// SPDX-License-Identifier: BSL-1.0
//
// B6: heap bytes for each of 100,000 coroutines that are spawned on one loop and wait: in an
// operation that needs no memory of its own (the bare coroutine), in an offload of an expert's
// Asio, and in ours; then in ours once more, spawned by our own spawn. The only worker is busy
// meanwhile, so that every call is queued. Prints JSON.
#include "baselines/asio_by_an_expert.hpp"
#include "countdown.hpp"
#include "counting_heap.hpp"
#include "subject.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/detail/continuation.hpp>
#include <bothworlds/spawn.hpp>
#include <bothworlds/sync_to_async.hpp>
#include <bothworlds/worker_pool.hpp>

#include <boost/asio/detached.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <latch>
#include <stdexcept>
#include <system_error>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

namespace bench {

namespace asio = boost::asio;

constexpr std::size_t coroutines = 100'000;

int nothing() { return 42; }

template <class Call>
asio::awaitable<void> one(Call& call, countdown& left) {
  co_await call();
  left.one_less();
}

const auto by_co_spawn = [](const auto& executor, asio::awaitable<void> coroutine) {
  asio::co_spawn(executor, std::move(coroutine), asio::detached);
};
const auto by_our_spawn = [](const auto& executor, asio::awaitable<void> coroutine) {
  bothworlds::spawn(executor, std::move(coroutine), asio::detached);
};

/// Spawns all of them, takes `bytes` when every one waits, and lets them go on.
template <class Call, class Release, class Spawn>
asio::awaitable<int> measure(Call call, Release release, double& bytes, Spawn spawn) {
  const auto executor = co_await asio::this_coro::executor;
  countdown left(coroutines);
  const std::int64_t before = heap_bytes();
  for (std::size_t i = 0; i < coroutines; ++i) spawn(executor, one(call, left));
  // What was spawned before has been through the loop's queue when this has.
  for (int turn = 0; turn < 2; ++turn) co_await asio::post(asio::deferred);
  bytes = static_cast<double>(heap_bytes() - before) / static_cast<double>(coroutines);
  asio::post(executor, release);
  co_await left.reached();
  co_return 0;
}

/// With use_awaitable, Asio puts a coroutine of its own around an operation; with deferred it does not.
template <class Token>
double bare(const Token& token) {
  double bytes = 0;
  std::vector<bothworlds::detail::continuation> waiting;
  waiting.reserve(coroutines);
  const auto call = [&waiting, &token] {
    const auto start = [&waiting](auto handler) { waiting.emplace_back(std::move(handler)); };
    return asio::async_initiate<const Token&, void()>(start, token);
  };
  const auto release = [&waiting] {
    for (auto& resume : waiting) resume();
  };
  keep(asio_by_an_expert::block_on([&] { return measure(call, release, bytes, by_co_spawn); }));
  return bytes;
}

double by_an_expert() {
  double bytes = 0;
  std::latch go(1);
  asio::thread_pool pool(1);
  asio::post(pool, [&go] { go.wait(); });
  const auto call = [&pool] { return asio_by_an_expert::offload(pool, nothing, asio::deferred); };
  const auto release = [&go] { go.count_down(); };
  keep(asio_by_an_expert::block_on([&] { return measure(call, release, bytes, by_co_spawn); }));
  return bytes;
}

template <class Spawn>
double ours(Spawn spawn) {
  double bytes = 0;
  std::latch go(1);
  bothworlds::worker_pool pool({.soft_limit = 1, .hard_limit = 1});
  asio::post(pool.get_executor(), [&go] { go.wait(); });
  const auto call = bothworlds::sync_to_async(nothing, {.pool = &pool});
  const auto release = [&go] { go.count_down(); };
  const auto root = [&] { return measure(call, release, bytes, spawn); };
  keep(bothworlds::async_to_sync(root)());
  return bytes;
}

/// In a process of its own: what one leaves behind in its lists of free blocks would be the next one's gain.
template <class Measure>
double apart(Measure measure) {
  int ends[2];
  if (::pipe(ends) != 0) throw std::system_error(errno, std::generic_category(), "pipe");
  const pid_t child = ::fork();
  if (child < 0) throw std::system_error(errno, std::generic_category(), "fork");
  double bytes = 0;
  if (child == 0) {
    bytes = measure();
    ::_exit(::write(ends[1], &bytes, sizeof bytes) == sizeof bytes ? EXIT_SUCCESS : EXIT_FAILURE);
  }
  ::close(ends[1]);
  const bool measured = ::read(ends[0], &bytes, sizeof bytes) == sizeof bytes;
  ::close(ends[0]);
  ::waitpid(child, nullptr, 0);
  if (!measured) throw std::runtime_error("a measurement has ended without a figure");
  return bytes;
}

}  // namespace bench

int main() {
  using namespace bench;
  const double none = apart([] { return bare(asio::deferred); }),
               awaitable = apart([] { return bare(asio::use_awaitable); }),
               expert = apart(by_an_expert), co_spawned = apart([] { return ours(by_co_spawn); }),
               spawned = apart([] { return ours(by_our_spawn); });
  std::printf(
      "{\"bare coroutine\": %.0f, \"bare coroutine, use_awaitable\": %.0f, \"Asio by an expert\": "
      "%.0f, \"bothworlds\": %.0f, "
      "\"bothworlds, by its own spawn\": %.0f}\n",
      none, awaitable, expert, co_spawned, spawned);
}
