// SPDX-License-Identifier: BSL-1.0
//
// Context: an offload and back with 0, 1, 10 and 100 context variables set. It must cost the same.
#include "cases.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/context.hpp>
#include <bothworlds/sync_to_async.hpp>

#include <deque>
#include <string>

namespace bench {
namespace context {

namespace asio = boost::asio;

int nothing() { return 42; }

struct ours {
  explicit ours(std::size_t count) {
    while (variables.size() < count) variables.emplace_back("bench");
  }
  void run(std::size_t calls) { keep(bothworlds::async_to_sync(walk)(std::ref(variables), calls)); }
  static asio::awaitable<int> walk(std::deque<bothworlds::context_var<int>>& variables,
                                   std::size_t calls) {
    for (const auto& variable : variables) variable.set(7);
    const auto call = bothworlds::sync_to_async(nothing);
    int last = 0;
    while (calls-- != 0) last = co_await call();
    co_return last;
  }
  std::deque<bothworlds::context_var<int>> variables;
};

}  // namespace context

void add_context_values(registry& cases) {
  for (const std::size_t count : {0, 1, 10, 100})
    cases.add<context::ours>("context/bothworlds, " + std::to_string(count) + " variables", 1, 100,
                             count);
}

}  // namespace bench
