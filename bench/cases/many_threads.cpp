// SPDX-License-Identifier: BSL-1.0
//
// B10: a hundred threads block for coroutines at once, each on its own loop. The curve is the same
// with 1 to 100 threads: the time of a call, divided by the threads, must not grow with them.
#include "baselines/asio_as_written.hpp"
#include "baselines/asio_by_an_expert.hpp"
#include "cases.hpp"

#include <bothworlds/async_to_sync.hpp>

#include <boost/asio/deferred.hpp>

#include <barrier>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace bench {
namespace b10 {

namespace asio = boost::asio;

constexpr std::size_t calls_each = 1000;

asio::awaitable<int> yielding() {
  co_await asio::post(asio::deferred);
  co_return 42;
}

/// Threads that make their calls in rounds, all at once.
class team {
public:
  team(std::size_t size, std::function<int()> call)
      : call_(std::move(call)),
        start_(static_cast<std::ptrdiff_t>(size) + 1),
        end_(static_cast<std::ptrdiff_t>(size) + 1) {
    for (std::size_t i = 0; i < size; ++i) threads_.emplace_back([this] { work(); });
  }
  ~team() {
    ending_ = true;
    start_.arrive_and_wait();
    for (std::thread& thread : threads_) thread.join();
  }
  team(const team&) = delete;
  team& operator=(const team&) = delete;

  void run(std::size_t rounds) {
    while (rounds-- != 0) {
      start_.arrive_and_wait();
      end_.arrive_and_wait();
    }
  }

private:
  void work() {
    for (;;) {
      start_.arrive_and_wait();
      if (ending_) return;
      for (std::size_t i = 0; i < calls_each; ++i) keep(call_());
      end_.arrive_and_wait();
    }
  }

  const std::function<int()> call_;
  std::barrier<> start_, end_;
  bool ending_ = false;  // written before start_
  std::vector<std::thread> threads_;
};

struct ours : team {
  explicit ours(std::size_t size) : team(size, bothworlds::async_to_sync(yielding)) {}
};
struct as_written : team {
  explicit as_written(std::size_t size)
      : team(size, [] { return asio_as_written::block_on(yielding); }) {}
};
struct by_an_expert : team {
  explicit by_an_expert(std::size_t size)
      : team(size, [] { return asio_by_an_expert::block_on(yielding); }) {}
};

}  // namespace b10

void add_many_threads(registry& cases) {
  using namespace b10;
  constexpr std::size_t threads = 100;
  cases.add<ours>("B10/bothworlds", threads * calls_each, 2, threads);
  cases.add<as_written>("B10/Asio as written", threads * calls_each, 2, threads);
  cases.add<by_an_expert>("B10/Asio by an expert", threads * calls_each, 2, threads);
  for (const std::size_t size : {1, 2, 5, 10, 20, 50, 100}) {
    const auto x = "/" + std::to_string(size);
    cases.add<ours>("threads/bothworlds" + x, size * calls_each, 2, size);
    cases.add<by_an_expert>("threads/Asio by an expert" + x, size * calls_each, 2, size);
  }
}

}  // namespace bench
