// SPDX-License-Identifier: BSL-1.0
//
// A chat server: the WebSockets are Boost.Beast's and asynchronous, what is done with a line is
// synchronous code, which may block as it likes, and which tells the others by async_to_sync.
//
//   chat [PORT]      port 0, the default, takes a free one

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/channel.hpp>
#include <bothworlds/sync_to_async.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/buffers_to_string.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/websocket.hpp>

#include <cstdlib>
#include <iostream>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace asio = boost::asio;
namespace websocket = boost::beast::websocket;
using asio::ip::tcp;
using bothworlds::async_to_sync;
using bothworlds::channel;
using bothworlds::sync_to_async;

using socket_stream = websocket::stream<tcp::socket>;

// Lines on their way to one guest. A guest who does not read them keeps the others waiting, up to a
// point.
using outbox = channel<std::string>;

//! [room]
// Async code, on the server's loop.
class room {
public:
  void enter(outbox& guest) { guests_.insert(&guest); }
  void leave(outbox& guest) { guests_.erase(&guest); }

  asio::awaitable<void> tell_everybody(std::string line) {
    const auto now_here = guests_;
    for (outbox* guest : now_here)
      if (guests_.contains(guest) && !guest->is_closed()) {
        std::string copy = line;
        if (!guest->try_send(copy)) guest->close();  // does not read: goes
      }
    co_return;
  }

private:
  std::set<outbox*> guests_;
};
//! [room]

//! [handler]
// Synchronous code. Each call runs on some worker.
class handler {
public:
  explicit handler(room& where) : room_(where) {}

  void received(const std::string& name, const std::string& text) {
    std::string line = name + ": " + text;
    {
      const std::lock_guard lock(mutex_);  // a database, say
      history_.push_back(line);
    }
    async_to_sync (&room::tell_everybody)(&room_, line);
  }

  std::size_t lines_said() {
    const std::lock_guard lock(mutex_);
    return history_.size();
  }

private:
  room& room_;
  std::mutex mutex_;
  std::vector<std::string> history_;
};
//! [handler]

asio::awaitable<void> write_lines(socket_stream& socket, outbox& lines) {
  try {
    while (const auto line = co_await lines.receive())
      co_await socket.async_write(asio::buffer(*line), asio::use_awaitable);
  } catch (const boost::system::system_error&) {
    lines.close();  // the guest has gone
  }
}

//! [session]
asio::awaitable<void> serve(tcp::socket connection, int number, room& here, handler& sync_handler) {
  const std::string name = "guest " + std::to_string(number);
  const auto received = sync_to_async(&handler::received);
  socket_stream socket(std::move(connection));
  outbox lines(100);
  channel<bool> written(1);
  try {
    co_await socket.async_accept(asio::use_awaitable);
    here.enter(lines);
    const auto write = [&]() -> asio::awaitable<void> {
      co_await write_lines(socket, lines);
      co_await written.send(true);
    };
    asio::co_spawn(socket.get_executor(), write, asio::detached);
    try {
      boost::beast::flat_buffer buffer;
      for (;;) {
        co_await socket.async_read(buffer, asio::use_awaitable);
        co_await received(&sync_handler, name, boost::beast::buffers_to_string(buffer.data()));
        buffer.clear();
      }
    } catch (const boost::system::system_error&) {
      // The guest has gone.
    }
    here.leave(lines);
    lines.close();
    co_await written.receive();
  } catch (const boost::system::system_error&) {
    // No WebSocket.
  }
}
//! [session]

asio::awaitable<void> accept(tcp::acceptor& door, room& here, handler& sync_handler) {
  for (int number = 1;; ++number) {
    tcp::socket guest = co_await door.async_accept(asio::use_awaitable);
    asio::co_spawn(door.get_executor(), serve(std::move(guest), number, here, sync_handler),
                   asio::detached);
  }
}

int main(int argc, char** argv) {
  const auto port = static_cast<unsigned short>(argc > 1 ? std::atoi(argv[1]) : 0);
  room here;
  handler sync_handler(here);
  asio::io_context loop(1);
  tcp::acceptor door(loop, {asio::ip::address_v4::loopback(), port});
  std::cout << "Chatting at ws://127.0.0.1:" << door.local_endpoint().port() << std::endl;
  asio::co_spawn(loop, accept(door, here, sync_handler), asio::detached);
  asio::signal_set signals(loop, SIGINT, SIGTERM);
  signals.async_wait([&](boost::system::error_code, int) { loop.stop(); });
  loop.run();
  std::cout << sync_handler.lines_said() << " lines were said." << std::endl;
}
