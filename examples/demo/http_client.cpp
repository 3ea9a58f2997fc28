// SPDX-License-Identifier: BSL-1.0
#include "http_client.hpp"

#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/http.hpp>

#include <chrono>
#include <utility>

namespace demo {

using asio::use_awaitable;
using asio::ip::tcp;
using namespace std::chrono_literals;

http_client::http_client(const asio::any_io_executor& executor, tcp::endpoint server)
    : server_(std::move(server)), stream_(executor) {}

asio::awaitable<void> http_client::connect() {
  stream_.close();
  buffer_.clear();
  stream_.expires_after(5s);
  co_await stream_.async_connect(server_, use_awaitable);
  stream_.socket().set_option(tcp::no_delay(true));
}

asio::awaitable<reply> http_client::get(std::string target) {
  if (!connected_) co_await connect();
  connected_ = false;  // until the answer is here: an exception leaves the connection half used

  http::request<http::empty_body> request(http::verb::get, target, 11);
  request.set(http::field::host, "127.0.0.1");
  stream_.expires_after(30s);
  co_await http::async_write(stream_, request, use_awaitable);

  http::response<http::string_body> response;
  co_await http::async_read(stream_, buffer_, response, use_awaitable);
  connected_ = response.keep_alive();
  co_return reply{response.result(), std::move(response.body())};
}

}  // namespace demo
