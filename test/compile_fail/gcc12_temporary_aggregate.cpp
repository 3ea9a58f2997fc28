// SPDX-License-Identifier: BSL-1.0
// case: gcc12_safe_spellings: a temporary aggregate with a destructor draws the warning
// flavor: warning
// only: gcc<=12
// expect: give the lambda a name first
#include <bothworlds/sync_to_async.hpp>

#include <boost/asio/awaitable.hpp>

#include <string>

struct aggregate {
  std::string text;
  void operator()() const {}
};

boost::asio::awaitable<void> coroutine(std::string text) {
  co_await bothworlds::sync_to_async(aggregate{text})();
}
