// SPDX-License-Identifier: BSL-1.0
// case: a thread_bound object is not used by coroutines, which run on a loop
// expect: thread_bound::call: this callable is async, but the object must be used on its own thread: let it return a plain result
#include <bothworlds/thread_bound.hpp>

#include <boost/asio/awaitable.hpp>

#include <string>

int main() {
  bothworlds::thread_bound<std::string> text([] { return std::string(); });
  text.call_blocking([](std::string&) -> boost::asio::awaitable<void> { co_return; });
}
