// SPDX-License-Identifier: BSL-1.0
//
// B3: a coroutine hands a callable that does nothing to a thread and awaits it, again and again.
#include "baselines/asio_as_written.hpp"
#include "baselines/asio_by_an_expert.hpp"
#include "baselines/hand_over.hpp"
#include "cases.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/sync_to_async.hpp>

#include <future>

namespace bench {

namespace b3 {

namespace asio = boost::asio;

int nothing() { return 42; }

asio::awaitable<int> in_a_row(std::size_t calls) {
  const auto call = bothworlds::sync_to_async(nothing);
  int last = 0;
  while (calls-- != 0) last = co_await call();
  co_return last;
}

struct ours {
  void run(std::size_t calls) { keep(bothworlds::async_to_sync(in_a_row)(calls)); }
};

/// The same coroutine on somebody else's io_context.
struct ours_on_asio {
  void run(std::size_t calls) {
    keep(asio_by_an_expert::block_on([calls] { return in_a_row(calls); }));
  }
};

struct as_written {
  void run(std::size_t calls) {
    keep(asio_as_written::block_on([&] { return walk(pool, calls); }));
  }
  static asio::awaitable<int> walk(asio::thread_pool& pool, std::size_t calls) {
    int last = 0;
    while (calls-- != 0) last = co_await asio_as_written::offload(pool, nothing);
    co_return last;
  }
  asio::thread_pool pool;
};

struct by_an_expert {
  void run(std::size_t calls) {
    keep(asio_by_an_expert::block_on([&] { return walk(pool, calls); }));
  }
  static asio::awaitable<int> walk(asio::thread_pool& pool, std::size_t calls) {
    int last = 0;
    while (calls-- != 0) last = co_await asio_by_an_expert::offload(pool, nothing, asio::deferred);
    co_return last;
  }
  asio::thread_pool pool;
};

struct by_std_async {
  void run(std::size_t calls) {
    while (calls-- != 0) keep(std::async(std::launch::async, nothing).get());
  }
};

struct limit {
  explicit limit(waiting how) : other(how) {}
  void run(std::size_t calls) {
    while (calls-- != 0) other.round_trip();
  }
  hand_over other;
};

}  // namespace b3

void add_sequential_offload(registry& cases) {
  cases.add<b3::ours>("B3/bothworlds", 1, 100);
  cases.add<b3::ours_on_asio>("B3/bothworlds on a plain io_context", 1, 100);
  cases.add<b3::as_written>("B3/Asio as written", 1, 100);
  cases.add<b3::by_an_expert>("B3/Asio by an expert", 1, 100);
  cases.add<b3::by_std_async>("B3/std::async", 1, 10);
  cases.add<b3::limit>("B3/raw futex", 1, 100, waiting::by_futex);
  // On one CPU it would only measure the scheduler's time slice.
  if (usable_cpus() > 1) cases.add<b3::limit>("B3/raw spinning", 1, 100, waiting::by_spinning);
}

}  // namespace bench
