// SPDX-License-Identifier: BSL-1.0
//
// A small HTTP/1.1 server on Boost.Beast, on a loop and a thread of its own. It is plain Asio: what
// the handler awaits, and whether that crosses into another world, is not its business.
#pragma once

#include "site.hpp"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/tcp_stream.hpp>

#include <cstdint>
#include <functional>
#include <list>
#include <string>
#include <thread>

namespace demo {

using tcp = asio::ip::tcp;

class http_server {
public:
  using handler = std::function<asio::awaitable<reply>(std::string target)>;

  struct counts {
    std::uint64_t answered = 0;  // requests that got the page they asked for
    std::uint64_t refused = 0;   // … a status of 400 or above
    std::uint64_t hung_up = 0;   // clients that left before their answer
  };

  /// Listens on 127.0.0.1 and starts the thread. Throws std::runtime_error if the port cannot be
  /// had.
  http_server(unsigned short port, handler answer);
  http_server(const http_server&) = delete;
  http_server& operator=(const http_server&) = delete;
  ~http_server();

  tcp::endpoint endpoint() const { return endpoint_; }

  /// Accepts nobody any more, lets every request that has arrived get its answer, ends the thread.
  /// From any other thread; the second time it only returns the counts.
  counts stop();

private:
  struct session;

  asio::awaitable<void> accept();
  asio::awaitable<void> serve(session& self);
  asio::awaitable<reply> safe_answer(std::string target);
  asio::awaitable<void> drain();

  const handler answer_;
  asio::io_context loop_{1};
  tcp::acceptor acceptor_{loop_};
  tcp::endpoint endpoint_;

  // Touched on the server's thread only, until that has ended.
  std::list<session> sessions_;
  asio::steady_timer vacancy_{loop_};  // cancelled whenever a session ends
  bool stopping_ = false;
  counts counts_;

  std::thread thread_;
};

}  // namespace demo
