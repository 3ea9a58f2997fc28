// SPDX-License-Identifier: BSL-1.0
//
// A server that stays awake while it works: /work/7 sorts 10^7 random numbers on a worker thread,
// /check answers at once meanwhile. Ctrl-C ends it in good order.

#include <bothworlds/run.hpp>
#include <bothworlds/sync_to_async.hpp>
#include <bothworlds/task_group.hpp>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <random>
#include <string>
#include <vector>

namespace asio = boost::asio;
using asio::use_awaitable;
using asio::ip::tcp;
using bothworlds::sync_to_async;
using bothworlds::task_group;

//! [work]
// Blocks its thread for as long as it takes.
std::string sort_numbers(int exponent) {
  std::vector<unsigned> numbers(static_cast<std::size_t>(std::pow(10, exponent)));
  std::mt19937 random;
  std::generate(numbers.begin(), numbers.end(), std::ref(random));
  std::sort(numbers.begin(), numbers.end());
  return "sorted " + std::to_string(numbers.size()) + " numbers\n";
}

asio::awaitable<std::string> answer_to(std::string target) {
  if (target == "/check") co_return "OK\n";
  if (target.starts_with("/work/") && target.size() == 7 && target[6] >= '0' && target[6] <= '8')
    co_return co_await sync_to_async(sort_numbers)(target[6] - '0');
  co_return "try /check or /work/7\n";
}
//! [work]

asio::awaitable<void> serve_client(tcp::socket client) {
  try {
    std::string request;
    co_await asio::async_read_until(client, asio::dynamic_buffer(request, 8192), "\r\n\r\n",
                                    use_awaitable);
    const std::size_t begin = request.find(' ') + 1;
    const std::string body =
        co_await answer_to(request.substr(begin, request.find(' ', begin) - begin));
    const std::string answer = "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n" + body;
    co_await asio::async_write(client, asio::buffer(answer), use_awaitable);
  } catch (const boost::system::system_error&) {
    // The client has gone, or the server is being stopped.
  }
}

asio::awaitable<void> async_main() {
  tcp::acceptor acceptor(co_await asio::this_coro::executor, {asio::ip::address_v4::loopback(), 0});
  std::cout << "http://127.0.0.1:" << acceptor.local_endpoint().port() << std::endl;
  auto accept_clients = [&](task_group& clients) -> asio::awaitable<void> {
    for (;;) clients.spawn(serve_client(co_await acceptor.async_accept(use_awaitable)));
  };
  co_await bothworlds::with_task_group(accept_clients);
}

int main() {
  try {
    bothworlds::run(async_main);
  } catch (const bothworlds::interrupted& stop) {
    std::cout << "stopped by signal " << stop.signal() << std::endl;
  }
}
