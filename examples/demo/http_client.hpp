// SPDX-License-Identifier: BSL-1.0
//
// An asynchronous HTTP client: one connection, kept open from one request to the next.
#pragma once

#include "site.hpp"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>

#include <string>

namespace demo {

class http_client {
public:
  http_client(const asio::any_io_executor& executor, asio::ip::tcp::endpoint server);

  /// Connects if need be. Throws boost::system::system_error when no answer came; the next call
  /// begins with a new connection.
  asio::awaitable<reply> get(std::string target);

private:
  asio::awaitable<void> connect();

  const asio::ip::tcp::endpoint server_;
  boost::beast::tcp_stream stream_;
  boost::beast::flat_buffer buffer_;
  bool connected_ = false;
};

}  // namespace demo
