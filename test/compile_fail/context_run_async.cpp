// SPDX-License-Identifier: BSL-1.0
// case: context::run is for blocking code
// expect: context::run: this function is async: write co_await with_context(context, function)
#include <bothworlds/context.hpp>

#include <boost/asio/awaitable.hpp>

boost::asio::awaitable<void> work() { co_return; }

int main() { bothworlds::context::current().run(work); }
