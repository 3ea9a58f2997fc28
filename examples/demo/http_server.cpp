// SPDX-License-Identifier: BSL-1.0
#include "http_server.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>

#include <array>
#include <chrono>
#include <exception>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

namespace demo {

using namespace std::chrono_literals;
using asio::redirect_error;
using asio::use_awaitable;
using boost::system::error_code;

namespace {

constexpr std::size_t most_sessions = 256;
constexpr std::size_t most_header_bytes = 8192;
constexpr std::size_t most_body_bytes = 65536;
constexpr auto patience = 10s;   // for a request to arrive once begun, for an answer to be taken
constexpr auto idle_time = 60s;  // between two requests

using request_parser = http::request_parser<http::string_body>;
using response = http::response<http::string_body>;

/// What to tell a client whose request could not be read; nothing if it is not there to be told.
std::optional<reply> complaint_about(const error_code& error) {
  if (error == http::error::end_of_stream || error == http::error::partial_message) return {};
  if (error.category() != http::make_error_code(http::error::bad_method).category()) return {};
  if (error == http::error::body_limit)
    return reply{http::status::payload_too_large, "the body of a request is 64 KiB at most\n"};
  if (error == http::error::header_limit || error == http::error::buffer_overflow)
    return reply{http::status::request_header_fields_too_large, "the header is 8 KiB at most\n"};
  if (error == http::error::bad_version)
    return reply{http::status::http_version_not_supported, "HTTP/1.1, please\n"};
  return reply{http::status::bad_request, "malformed request: " + error.message() + '\n'};
}

response make_response(reply answer, bool keep_alive) {
  response result(answer.status, 11);
  result.set(http::field::server, "bothworlds demo");
  result.set(http::field::content_type, "text/plain; charset=utf-8");
  if (answer.status == http::status::method_not_allowed)
    result.set(http::field::allow, "GET, HEAD");
  result.body() = std::move(answer.body);
  result.keep_alive(keep_alive);
  result.prepare_payload();
  return result;
}

asio::awaitable<void> send(boost::beast::tcp_stream& stream, response message, bool header_only) {
  stream.expires_after(patience);
  http::response_serializer<http::string_body> serializer(message);
  if (header_only)
    co_await http::async_write_header(stream, serializer, use_awaitable);
  else
    co_await http::async_write(stream, serializer, use_awaitable);
}

/// Closes our side first and reads what is still coming: bytes left unread would make the kernel
/// reset the connection, and the client might lose the answer that says what was wrong.
asio::awaitable<void> linger(boost::beast::tcp_stream& stream) {
  error_code error;
  stream.socket().shutdown(tcp::socket::shutdown_send, error);
  stream.expires_after(1s);
  std::array<char, 4096> discarded;
  while (!error)
    co_await stream.async_read_some(asio::buffer(discarded), redirect_error(use_awaitable, error));
}

}  // namespace

struct http_server::session {
  explicit session(tcp::socket socket) : stream(std::move(socket)) {}
  bool nothing_begun() const { return phase == waiting && buffer.size() == 0; }

  boost::beast::tcp_stream stream;
  boost::beast::flat_buffer buffer{most_header_bytes + most_body_bytes};
  enum { waiting, receiving, answering } phase = waiting;
};

http_server::http_server(unsigned short port, handler answer) : answer_(std::move(answer)) {
  const tcp::endpoint wanted(asio::ip::address_v4::loopback(), port);
  try {
    acceptor_.open(wanted.protocol());
    acceptor_.set_option(tcp::acceptor::reuse_address(true));
    acceptor_.bind(wanted);
    acceptor_.listen();
  } catch (const boost::system::system_error& error) {
    throw std::runtime_error("cannot listen on 127.0.0.1:" + std::to_string(port) + ": " +
                             error.code().message());
  }
  endpoint_ = acceptor_.local_endpoint();
  asio::co_spawn(loop_, accept(), asio::detached);
  thread_ = std::thread([this] { loop_.run(); });
}

http_server::~http_server() { stop(); }

http_server::counts http_server::stop() {
  if (thread_.joinable()) {
    asio::co_spawn(loop_, drain(), asio::detached);
    thread_.join();  // run() returns when the last session has ended
  }
  return counts_;
}

asio::awaitable<void> http_server::drain() {
  stopping_ = true;
  error_code ignored;
  acceptor_.close(ignored);
  vacancy_.cancel();
  for (auto& each : sessions_)
    if (each.nothing_begun()) each.stream.cancel();

  // What is being answered gets its answer; a request that is half here, a moment to arrive.
  const auto deadline = asio::steady_timer::clock_type::now() + 2s;
  while (!sessions_.empty() && asio::steady_timer::clock_type::now() < deadline) {
    vacancy_.expires_at(deadline);
    co_await vacancy_.async_wait(redirect_error(use_awaitable, ignored));
  }
  for (auto& each : sessions_)
    if (each.phase != session::answering) each.stream.cancel();
}

asio::awaitable<void> http_server::accept() {
  while (!stopping_) {
    error_code error;
    if (sessions_.size() >= most_sessions) {  // those who come now wait in the kernel's queue
      vacancy_.expires_at(asio::steady_timer::time_point::max());
      co_await vacancy_.async_wait(redirect_error(use_awaitable, error));
      continue;
    }
    auto socket = co_await acceptor_.async_accept(redirect_error(use_awaitable, error));
    if (stopping_) co_return;
    if (error) {  // the client has gone, or there is no file descriptor left: a little later
      vacancy_.expires_after(20ms);
      co_await vacancy_.async_wait(redirect_error(use_awaitable, error));
      continue;
    }
    socket.set_option(tcp::no_delay(true), error);
    const auto self = sessions_.emplace(sessions_.end(), std::move(socket));
    asio::co_spawn(loop_, serve(*self), [this, self](const std::exception_ptr& lost) {
      if (lost) ++counts_.hung_up;
      sessions_.erase(self);
      vacancy_.cancel();
    });
  }
}

/// One connection. Leaves by an exception when the client is no longer there to be answered.
asio::awaitable<void> http_server::serve(session& self) {
  auto& stream = self.stream;
  for (bool keep_alive = true; keep_alive && !stopping_;) {
    request_parser parser;
    parser.header_limit(most_header_bytes);
    parser.body_limit(most_body_bytes);

    error_code error;
    self.phase = session::waiting;
    stream.expires_after(idle_time);
    co_await http::async_read_some(stream, self.buffer, parser,
                                   redirect_error(use_awaitable, error));
    if (!parser.got_some()) co_return;  // left, timed out or stopped between two requests
    self.phase = session::receiving;
    stream.expires_after(patience);
    if (!error && !parser.is_done())
      co_await http::async_read(stream, self.buffer, parser, redirect_error(use_awaitable, error));
    self.phase = session::answering;

    if (error) {
      auto complaint = complaint_about(error);
      if (!complaint) throw boost::system::system_error(error);
      ++counts_.refused;
      co_await send(stream, make_response(std::move(*complaint), false), false);
      co_return co_await linger(stream);
    }

    const auto& request = parser.get();
    const auto method = request.method();
    reply answer{http::status::method_not_allowed, "GET and HEAD are understood here\n"};
    if (method == http::verb::get || method == http::verb::head)
      answer = co_await safe_answer(std::string(request.target()));
    keep_alive = request.keep_alive() && !stopping_;
    const bool good = answer.status == http::status::ok;
    co_await send(stream, make_response(std::move(answer), keep_alive), method == http::verb::head);
    ++(good ? counts_.answered : counts_.refused);
  }
  co_await linger(stream);
}

/// An exception of the handler's spoils one answer, not the connection and not the server.
asio::awaitable<reply> http_server::safe_answer(std::string target) {
  reply failure{http::status::internal_server_error, {}};
  try {
    co_return co_await answer_(std::move(target));
  } catch (const std::exception& error) {
    failure.body = std::string("internal error: ") + error.what() + '\n';
  }
  co_return failure;
}

}  // namespace demo
