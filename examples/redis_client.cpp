// SPDX-License-Identifier: BSL-1.0
//
// A Redis client that blocks (hiredis), used from coroutines: many at once on one connection, which
// takes one command at a time; and a queue whose blocking pops are walked as a stream.
//
//   redis_client PORT

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/stream.hpp>
#include <bothworlds/sync_to_async.hpp>

#include <boost/asio/experimental/awaitable_operators.hpp>

#include <cstdlib>
#include <functional>
#include <iostream>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <hiredis/hiredis.h>

namespace asio = boost::asio;
using bothworlds::async_to_sync;
using bothworlds::sync_to_async;
using bothworlds::to_async_stream;

//! [blocking]
// Blocking code; a connection is for one thread at a time.
class redis {
public:
  explicit redis(int port) : connection_(redisConnect("127.0.0.1", port)) {
    if (!connection_ || connection_->err) throw std::runtime_error("cannot connect to Redis");
  }

  std::string command(const std::vector<std::string>& words) {
    std::vector<const char*> texts;
    std::vector<std::size_t> lengths;
    for (const std::string& word : words) {
      texts.push_back(word.data());
      lengths.push_back(word.size());
    }
    const std::unique_ptr<redisReply, void (*)(void*)> reply(
        static_cast<redisReply*>(redisCommandArgv(connection_.get(), static_cast<int>(words.size()),
                                                  texts.data(), lengths.data())),
        freeReplyObject);
    if (!reply) throw std::runtime_error(connection_->errstr);
    return text_of(*reply);
  }

private:
  static std::string text_of(const redisReply& reply) {
    switch (reply.type) {
      case REDIS_REPLY_INTEGER: return std::to_string(reply.integer);
      case REDIS_REPLY_ARRAY: return text_of(*reply.element[reply.elements - 1]);
      case REDIS_REPLY_ERROR: throw std::runtime_error({reply.str, reply.len});
      case REDIS_REPLY_NIL: return "nothing";
      default: return {reply.str, reply.len};
    }
  }

  struct closer {
    void operator()(redisContext* context) const { redisFree(context); }
  };
  std::unique_ptr<redisContext, closer> connection_;
};
//! [blocking]

//! [queue]
// Blocks until somebody has put something into the queue.
class queue_reader {
public:
  queue_reader(int port, std::string queue) : port_(port), queue_(std::move(queue)) {}
  std::optional<std::string> operator()() {
    if (!redis_) redis_ = std::make_unique<redis>(port_);  // here, where it may block
    std::string item = redis_->command({"BLPOP", queue_, "0"});
    if (item == "the end") return {};
    return item;
  }

private:
  int port_;
  std::string queue_;
  std::unique_ptr<redis> redis_;
};

asio::awaitable<void> print_queue(int port) {
  auto items = to_async_stream(queue_reader(port, "parcels"));
  while (const auto item = co_await items.next())
    std::cout << "out of the queue: " << *item << std::endl;
}
//! [queue]

//! [client]
// Thread-sensitive: one command at a time, all of them on one thread.
template <class... Words>
auto ask(redis& server, Words... words) {
  return sync_to_async(&redis::command, {.thread_sensitive = true})(
      &server, std::vector<std::string>{words...});
}

asio::awaitable<void> count(redis& server, int times) {
  for (int i = 0; i < times; ++i) co_await ask(server, "INCR", "counter");
}

asio::awaitable<void> fill_queue(redis& server) {
  for (const char* parcel : {"a letter", "a book", "the end"})
    co_await ask(server, "RPUSH", "parcels", parcel);
}

asio::awaitable<void> talk(redis& server, int port) {
  using namespace asio::experimental::awaitable_operators;
  const std::string pong = co_await ask(server, "PING");
  std::cout << "ping: " << pong << std::endl;
  co_await ask(server, "DEL", "counter", "parcels");
  co_await (count(server, 100) && count(server, 100) && count(server, 100));
  const std::string counter = co_await ask(server, "GET", "counter");
  std::cout << "counter: " << counter << std::endl;
  const std::string missing = co_await ask(server, "GET", "no such key");
  std::cout << "missing: " << missing << std::endl;
  try {
    co_await ask(server, "INCR", "counter", "twice");
  } catch (const std::runtime_error& e) {
    std::cout << "error: " << e.what() << std::endl;
  }
  co_await (print_queue(port) && fill_queue(server));
}
//! [client]

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: redis_client PORT" << std::endl;
    return 2;
  }
  try {
    const int port = std::atoi(argv[1]);
    redis server(port);
    async_to_sync(talk)(std::ref(server), port);
  } catch (const std::exception& e) {
    std::cerr << "redis_client: " << e.what() << std::endl;
    return 1;
  }
}
