// SPDX-License-Identifier: BSL-1.0
//
// Many downloads in one task group: each tells its seconds, bytes and URL as it ends. The site that
// they are from is a task of the same program.

#include <bothworlds/run.hpp>
#include <bothworlds/task_group.hpp>

#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

#include <chrono>
#include <cstdio>
#include <string>

namespace asio = boost::asio;
using asio::use_awaitable;
using asio::ip::tcp;
using bothworlds::task_group;
using bothworlds::with_task_group;
using std::chrono::steady_clock;

//! [crawl]
asio::awaitable<void> download(tcp::endpoint site, std::string path) {
  const auto begin = steady_clock::now();
  tcp::socket socket(co_await asio::this_coro::executor);
  co_await socket.async_connect(site, use_awaitable);
  const std::string request = "GET " + path + " HTTP/1.0\r\n\r\n";
  co_await asio::async_write(socket, asio::buffer(request), use_awaitable);

  std::string answer;
  boost::system::error_code end_of_file;
  co_await asio::async_read(socket, asio::dynamic_buffer(answer),
                            asio::redirect_error(use_awaitable, end_of_file));
  const std::size_t bytes = answer.size() - (answer.find("\r\n\r\n") + 4);
  const std::chrono::duration<double> spent = steady_clock::now() - begin;
  std::printf("%5.2f s %8zu bytes  http://localhost%s\n", spent.count(), bytes, path.c_str());
}

asio::awaitable<void> crawl(tcp::endpoint site) {
  auto all_pages = [site](task_group& downloads) -> asio::awaitable<void> {
    for (int page = 9; page >= 0; --page)
      downloads.spawn(download(site, "/" + std::to_string(page)));
    co_return;
  };
  co_await with_task_group(all_pages);  // left when the last download has ended
}
//! [crawl]

// Page n comes after n tenths of a second, and has 10,000 bytes for each.
asio::awaitable<void> answer_one(tcp::socket client) {
  std::string request;
  co_await asio::async_read_until(client, asio::dynamic_buffer(request), "\r\n\r\n", use_awaitable);
  const int page = request.at(5) - '0';
  co_await bothworlds::sleep_for(std::chrono::milliseconds(100 * page));
  const std::string answer = "HTTP/1.0 200 OK\r\n\r\n" + std::string(10000U * page, 'x');
  co_await asio::async_write(client, asio::buffer(answer), use_awaitable);
}

asio::awaitable<void> serve(tcp::acceptor& acceptor) {
  auto clients = [&](task_group& group) -> asio::awaitable<void> {
    for (;;) group.spawn(answer_one(co_await acceptor.async_accept(use_awaitable)));
  };
  co_await with_task_group(clients);
}

asio::awaitable<void> async_main() {
  tcp::acceptor acceptor(co_await asio::this_coro::executor, {asio::ip::address_v4::loopback(), 0});
  auto site_and_crawler = [&](task_group& group) -> asio::awaitable<void> {
    group.spawn(serve(acceptor));
    co_await crawl(acceptor.local_endpoint());
    group.cancel();  // the site is no longer needed
  };
  co_await with_task_group(site_and_crawler);
}

int main() { bothworlds::run(async_main); }
