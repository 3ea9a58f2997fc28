// SPDX-License-Identifier: BSL-1.0
//
// B7: a coroutine under a sync root makes thread-sensitive calls, which run on the blocked root
// thread while somebody else drives the loop. Nothing in Asio does this; the limit is a request and
// an answer between two threads.
#include "baselines/hand_over.hpp"
#include "cases.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/sync_to_async.hpp>

namespace bench {
namespace b7 {

namespace asio = boost::asio;

int nothing() { return 42; }

asio::awaitable<int> in_a_row(std::size_t calls) {
  const auto call = bothworlds::sync_to_async(nothing, {.thread_sensitive = true});
  int last = 0;
  while (calls-- != 0) last = co_await call();
  co_return last;
}

struct ours {
  void run(std::size_t calls) { keep(bothworlds::async_to_sync(in_a_row)(calls)); }
};

struct limit {
  void run(std::size_t calls) {
    while (calls-- != 0) other.round_trip();
  }
  hand_over other{waiting::by_futex};
};

}  // namespace b7

void add_thread_sensitive(registry& cases) {
  cases.add<b7::ours>("B7/bothworlds", 1, 500);
  cases.add<b7::limit>("B7/raw futex", 1, 100);
}

}  // namespace bench
