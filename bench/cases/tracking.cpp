// SPDX-License-Identifier: BSL-1.0
//
// B14: what it costs that threads tell what they wait for, and that somebody looks for deadlocks:
// the same calls with and without.
#include "cases.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/deadlock.hpp>
#include <bothworlds/sync_to_async.hpp>

namespace bench {
namespace b14 {

namespace asio = boost::asio;
using bothworlds::on_deadlock;

int nothing() { return 42; }
asio::awaitable<int> ready() { co_return 42; }

asio::awaitable<void> offloads(std::size_t calls) {
  const auto call = bothworlds::sync_to_async(nothing);
  while (calls-- != 0) keep(co_await call());
}

/// From a worker to the loop that awaits it.
void in_a_row(std::size_t calls) {
  const auto call = bothworlds::async_to_sync(ready);
  while (calls-- != 0) keep(call());
}

asio::awaitable<void> calls_back(std::size_t calls) {
  co_await bothworlds::sync_to_async(in_a_row)(calls);
}

using calls_of = asio::awaitable<void> (*)(std::size_t calls);

struct with_policy {
  with_policy(calls_of what, on_deadlock how) : coroutine_fn(what), policy(how) {}
  void run(std::size_t calls) {
    bothworlds::set_deadlock_options({.policy = policy});
    bothworlds::async_to_sync(coroutine_fn)(calls);
    bothworlds::set_deadlock_options({});
  }
  const calls_of coroutine_fn;
  const on_deadlock policy;
};

}  // namespace b14

void add_tracking(registry& cases) {
  using b14::with_policy;
  const auto tracked = bothworlds::on_deadlock::throw_error;
  const auto untracked = bothworlds::on_deadlock::off;
  cases.add<with_policy>("B14/bothworlds, offloads", 1, 100, &b14::offloads, tracked);
  cases.add<with_policy>("B14/untracked, offloads", 1, 100, &b14::offloads, untracked);
  cases.add<with_policy>("B14/bothworlds, calls back", 1, 500, &b14::calls_back, tracked);
  cases.add<with_policy>("B14/untracked, calls back", 1, 500, &b14::calls_back, untracked);
}

}  // namespace bench
