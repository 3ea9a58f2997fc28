// SPDX-License-Identifier: BSL-1.0
//
// B13: an item goes through a channel: into it and out again within one coroutine, without anybody
// waiting; from one coroutine to another of the same loop; from thread to thread; from a coroutine
// to a thread. Asio's concurrent_channel has no blocking face, a queue with a condition variable
// has no async one.
#include "baselines/asio_by_an_expert.hpp"
#include "baselines/bounded_queue.hpp"
#include "cases.hpp"
#include "countdown.hpp"
#include "partner.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/channel.hpp>
#include <bothworlds/gather.hpp>

#include <boost/asio/detached.hpp>
#include <boost/asio/experimental/concurrent_channel.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_future.hpp>

#include <string>

namespace bench {
namespace b13 {

namespace asio = boost::asio;

using our_channel = bothworlds::channel<int>;
using asio_channel = asio::experimental::concurrent_channel<void(boost::system::error_code, int)>;

// Of the library that is measured, and of Asio, under the same names.
asio::awaitable<void> send(our_channel& to, int item) { return to.send(item); }
asio::awaitable<std::optional<int>> receive(our_channel& from) { return from.receive(); }
auto send(asio_channel& to, int item) { return to.async_send({}, item, asio::deferred); }
auto receive(asio_channel& from) { return from.async_receive(asio::deferred); }

int value_of(std::optional<int> item) { return *item; }
int value_of(int item) { return item; }

template <class Channel>
asio::awaitable<int> send_all(Channel& to, std::size_t items) {
  for (std::size_t i = 0; i < items; ++i) co_await send(to, static_cast<int>(i));
  co_return 0;
}

template <class Channel>
asio::awaitable<int> receive_all(Channel& from, std::size_t items) {
  int last = 0;
  while (items-- != 0) last = value_of(co_await receive(from));
  co_return last;
}

template <class Channel>
asio::awaitable<int> in_and_out(Channel& channel, std::size_t items) {
  int last = 0;
  for (std::size_t i = 0; i < items; ++i) {
    co_await send(channel, static_cast<int>(i));
    last = value_of(co_await receive(channel));
  }
  co_return last;
}

/// Two coroutines on the executor of this one, which waits for both.
template <class Channel>
asio::awaitable<int> from_one_to_another(Channel& channel, std::size_t items) {
  const auto executor = co_await asio::this_coro::executor;
  countdown left(3);  // with this coroutine, so that none ends before it waits
  const auto ended = [&left](std::exception_ptr, int) { left.one_less(); };
  asio::co_spawn(executor, receive_all(channel, items), ended);
  asio::co_spawn(executor, send_all(channel, items), ended);
  asio::post(executor, [&left] { left.one_less(); });
  co_await left.reached();
  co_return 0;
}

struct ours_tried {
  void run(std::size_t items) {
    for (std::size_t i = 0; i < items; ++i) {
      int item = static_cast<int>(i);
      keep(channel.try_send(item));
      keep(channel.try_receive());
    }
  }
  our_channel channel{64};
};

struct asio_tried {
  void run(std::size_t items) {
    for (std::size_t i = 0; i < items; ++i) {
      keep(channel.try_send(boost::system::error_code(), static_cast<int>(i)));
      int last = 0;
      channel.try_receive([&last](boost::system::error_code, int item) { last = item; });
      keep(last);
    }
  }
  asio::io_context io{1};
  asio_channel channel{io, 64};
};

struct ours_in_one_coroutine {
  void run(std::size_t items) {
    keep(bothworlds::async_to_sync(in_and_out<our_channel>)(std::ref(channel), items));
  }
  our_channel channel{64};
};

struct asio_in_one_coroutine {
  void run(std::size_t items) {
    keep(asio_by_an_expert::block_on([&] { return in_and_out(channel, items); }));
  }
  asio_channel channel{asio_by_an_expert::kept_loop(), 64};
};

struct ours_between_coroutines {
  explicit ours_between_coroutines(std::size_t capacity) : channel(capacity) {}
  void run(std::size_t items) { keep(bothworlds::async_to_sync(both)(std::ref(channel), items)); }
  static asio::awaitable<int> both(our_channel& through, std::size_t items) {
    const auto results =
        co_await bothworlds::gather(receive_all(through, items), send_all(through, items));
    co_return std::get<0>(results);
  }
  our_channel channel;
};

struct ours_on_a_plain_loop {
  explicit ours_on_a_plain_loop(std::size_t capacity) : channel(capacity) {}
  void run(std::size_t items) {
    keep(asio_by_an_expert::block_on([&] { return from_one_to_another(channel, items); }));
  }
  our_channel channel;
};

struct asio_between_coroutines {
  explicit asio_between_coroutines(std::size_t capacity)
      : channel(asio_by_an_expert::kept_loop(), capacity) {}
  void run(std::size_t items) {
    keep(asio_by_an_expert::block_on([&] { return from_one_to_another(channel, items); }));
  }
  asio_channel channel;
};

struct ours_between_threads {
  explicit ours_between_threads(std::size_t capacity) : channel(capacity) {}
  void run(std::size_t items) {
    sender.together(items, [&] {
      for (std::size_t i = 0; i < items; ++i) keep(channel.receive_blocking());
    });
  }
  our_channel channel;
  partner sender{[this](std::size_t items) {
    for (std::size_t i = 0; i < items; ++i) channel.send_blocking(static_cast<int>(i));
  }};
};

struct queue_between_threads {
  explicit queue_between_threads(std::size_t capacity) : queue(capacity) {}
  void run(std::size_t items) {
    sender.together(items, [&] {
      for (std::size_t i = 0; i < items; ++i) keep(queue.receive());
    });
  }
  bounded_queue<int> queue;
  partner sender{[this](std::size_t items) {
    for (std::size_t i = 0; i < items; ++i) queue.send(static_cast<int>(i));
  }};
};

struct ours_to_a_thread {
  void run(std::size_t items) {
    receiver.together(items, [&] {
      keep(bothworlds::async_to_sync(send_all<our_channel>)(std::ref(channel), items));
    });
  }
  our_channel channel{64};
  partner receiver{[this](std::size_t items) {
    for (std::size_t i = 0; i < items; ++i) keep(channel.receive_blocking());
  }};
};

struct asio_to_a_thread {
  void run(std::size_t items) {
    receiver.together(items, [&] {
      keep(asio_by_an_expert::block_on([&] { return sent_and_received(items); }));
    });
  }
  /// The thread's receives complete on this loop, so it turns until the last of them has.
  asio::awaitable<int> sent_and_received(std::size_t items) {
    co_await send_all(channel, items);
    while (!all_received.try_acquire()) co_await asio::post(asio::deferred);
    co_return 0;
  }
  asio_channel channel{asio_by_an_expert::kept_loop(), 64};
  std::binary_semaphore all_received{0};
  partner receiver{[this](std::size_t items) {
    for (std::size_t i = 0; i < items; ++i) keep(channel.async_receive(asio::use_future).get());
    all_received.release();
  }};
};

}  // namespace b13

void add_channel_items(registry& cases) {
  using namespace b13;
  cases.add<ours_tried>("B13/bothworlds, tried", 1, 100);
  cases.add<asio_tried>("B13/concurrent_channel, tried", 1, 100);
  cases.add<ours_in_one_coroutine>("B13/bothworlds, one coroutine", 1, 100);
  cases.add<asio_in_one_coroutine>("B13/concurrent_channel, one coroutine", 1, 100);
  for (const std::size_t capacity : {1, 64}) {
    const auto room = ", capacity " + std::to_string(capacity);
    const auto coroutines = ", two coroutines" + room, threads = ", two threads" + room;
    cases.add<ours_between_coroutines>("B13/bothworlds" + coroutines, 1, 500, capacity);
    cases.add<ours_on_a_plain_loop>("B13/bothworlds on a plain io_context" + coroutines, 1, 500,
                                    capacity);
    cases.add<asio_between_coroutines>("B13/concurrent_channel" + coroutines, 1, 500, capacity);
    cases.add<ours_between_threads>("B13/bothworlds" + threads, 1, 500, capacity);
    cases.add<queue_between_threads>("B13/mutex and condvar" + threads, 1, 500, capacity);
  }
  cases.add<ours_to_a_thread>("B13/bothworlds, coroutine to thread", 1, 500);
  cases.add<asio_to_a_thread>("B13/concurrent_channel and futures, coroutine to thread", 1, 500);
}

}  // namespace bench
