// SPDX-License-Identifier: BSL-1.0
//
// B1: blocking code waits for a coroutine that is ready at once.
#include "baselines/asio_as_written.hpp"
#include "baselines/asio_by_an_expert.hpp"
#include "baselines/bare_coroutine.hpp"
#include "cases.hpp"

#include <bothworlds/async_to_sync.hpp>

#include <future>

namespace bench {

namespace b1 {

namespace asio = boost::asio;

asio::awaitable<int> ready() { co_return 42; }

struct ours {
  void run(std::size_t calls) {
    while (calls-- != 0) keep(call());
  }
  const decltype(bothworlds::async_to_sync(ready)) call = bothworlds::async_to_sync(ready);
};

struct as_written {
  void run(std::size_t calls) {
    while (calls-- != 0) keep(asio_as_written::block_on(ready));
  }
};

struct by_an_expert {
  void run(std::size_t calls) {
    while (calls-- != 0) keep(asio_by_an_expert::block_on(ready));
  }
};

struct by_std_async {
  void run(std::size_t calls) {
    while (calls-- != 0) keep(std::async(std::launch::async, [] { return 42; }).get());
  }
};

bare_coroutine bare() { co_return 42; }

struct limit {
  void run(std::size_t calls) {
    while (calls-- != 0) keep(bare().run());
  }
};

}  // namespace b1

void add_ready_coroutine(registry& cases) {
  cases.add<b1::ours>("B1/bothworlds", 1, 100);
  cases.add<b1::as_written>("B1/Asio as written", 1, 100);
  cases.add<b1::by_an_expert>("B1/Asio by an expert", 1, 100);
  cases.add<b1::by_std_async>("B1/std::async", 1, 10);
  cases.add<b1::limit>("B1/bare coroutine", 1, 100);
}

}  // namespace bench
