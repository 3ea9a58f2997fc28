// SPDX-License-Identifier: BSL-1.0
//
// B2: blocking code waits for a coroutine that goes through its loop's queue once.
#include "baselines/asio_as_written.hpp"
#include "baselines/asio_by_an_expert.hpp"
#include "baselines/bare_coroutine.hpp"
#include "cases.hpp"

#include <bothworlds/async_to_sync.hpp>

namespace bench {

namespace b2 {

namespace asio = boost::asio;

asio::awaitable<int> yielding() {
  co_await asio::post(asio::deferred);
  co_return 42;
}

asio::awaitable<int> yielding_as_written() {
  co_await asio::post(asio::use_awaitable);
  co_return 42;
}

struct ours {
  void run(std::size_t calls) {
    while (calls-- != 0) keep(call());
  }
  const decltype(bothworlds::async_to_sync(yielding)) call = bothworlds::async_to_sync(yielding);
};

struct as_written {
  void run(std::size_t calls) {
    while (calls-- != 0) keep(asio_as_written::block_on(yielding_as_written));
  }
};

struct by_an_expert {
  void run(std::size_t calls) {
    while (calls-- != 0) keep(asio_by_an_expert::block_on(yielding));
  }
};

bare_coroutine bare_yielding() {
  co_await std::suspend_always();
  co_return 42;
}

struct limit {
  void run(std::size_t calls) {
    while (calls-- != 0) keep(bare_yielding().run());
  }
};

}  // namespace b2

void add_yielding_once(registry& cases) {
  cases.add<b2::ours>("B2/bothworlds", 1, 100);
  cases.add<b2::as_written>("B2/Asio as written", 1, 100);
  cases.add<b2::by_an_expert>("B2/Asio by an expert", 1, 100);
  cases.add<b2::limit>("B2/bare coroutine", 1, 100);
}

}  // namespace bench
