// SPDX-License-Identifier: BSL-1.0
//
// The smallest program that crosses in both directions and nests once: what a user has after
// installing the library.
#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/sync_to_async.hpp>

#include <boost/asio/awaitable.hpp>

#include <iostream>

namespace {

int blocking_answer() { return 40; }

boost::asio::awaitable<int> answer() {
  const int most = co_await bothworlds::sync_to_async(blocking_answer)();
  co_return most + 2;
}

int blocking_answer_by_way_of_a_coroutine() { return bothworlds::async_to_sync(answer)(); }

boost::asio::awaitable<int> nested_answer() {
  co_return co_await bothworlds::sync_to_async(blocking_answer_by_way_of_a_coroutine)();
}

}  // namespace

int main() {
  const int direct = bothworlds::async_to_sync(answer)();
  const int nested = bothworlds::async_to_sync(nested_answer)();
  std::cout << "both worlds say " << direct << " and " << nested << '\n';
  return direct == 42 && nested == 42 ? 0 : 1;
}
