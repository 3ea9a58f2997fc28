// SPDX-License-Identifier: BSL-1.0
//
// A bounded queue between code of both worlds: any number of senders and receivers, coroutines and
// threads alike.
#pragma once

#include <bothworlds/blocking_options.hpp>
#include <bothworlds/detail/channel_state.hpp>

#include <boost/asio/awaitable.hpp>

#include <cstddef>
#include <optional>
#include <source_location>
#include <type_traits>
#include <utility>

namespace bothworlds {

namespace asio = boost::asio;

/// Items go in at one end and come out at the other, in order; who cannot go on waits, first come,
/// first served.
///
/// A coroutine waits suspended and resumes on its own executor; a thread waits blocked, and runs
/// what its chain needs to have run on it meanwhile, as in async_to_sync. An item that can be
/// handed over at once costs neither. Nothing is allocated for an item once the channel is in use.
///
/// Capacity 0 is a rendezvous: a send is done when its item has been received.
///
/// close() ends it: whoever waits wakes, and what is in the buffer can still be received. The item
/// of a send that was waiting then has not been sent. The destructor closes; coroutines and threads
/// that wait then are woken, not awaited.
///
/// Cancelled, timed out or stopped, a send has not sent and a receive has not received: no item is
/// lost or doubled. An item that was on its way to a coroutine whose loop is destroyed goes to the
/// next receiver. But a coroutine combined by
/// `||` with another that ends at the same moment is left out by that operator, with its item.
///
/// Threads     every member, from any thread and any loop, at once.
/// Not for     one value for one waiter (return it), or items that must survive the process.
template <class T>
class channel {
  static_assert(std::is_nothrow_move_constructible_v<T>,
                "channel<T>: moving a T must not throw, or an item could be lost: send a "
                "std::unique_ptr to it");

public:
  /// Throws std::bad_alloc: room for `capacity` items is made here.
  explicit channel(std::size_t capacity) : state_(new detail::channel_state<T>(capacity)) {}
  ~channel() { state_->abandon(); }
  channel(const channel&) = delete;
  channel& operator=(const channel&) = delete;

  /// Sends `item`, once there is room. Throws asio::experimental::error::channel_closed;
  /// operation_aborted when it is cancelled (total, partial and terminal alike): then it was not
  /// sent.
  [[nodiscard("co_await it: nothing is sent before")]] asio::awaitable<void> send(
      T item, std::source_location where = std::source_location::current()) {
    return detail::send_to<T>(state_, std::move(item), where);
  }

  /// The next item; empty once the channel is closed and drained. Throws operation_aborted when it
  /// is cancelled.
  [[nodiscard("co_await it: nothing is received before")]] asio::awaitable<std::optional<T>>
  receive(std::source_location where = std::source_location::current()) {
    return detail::receive_from<T>(state_, where);
  }

  /// Blocks until `item` is sent. False: the channel is closed, and it was not. Throws
  /// misuse_error, running_loop, on a thread that runs a loop; errc::timed_out and
  /// operation_aborted as `options` say; operation_aborted also when the operation that awaits the
  /// surrounding callable is cancelled.
  bool send_blocking(T item, blocking_options options = {},
                     std::source_location where = std::source_location::current()) {
    return state_->send_blocking(std::move(item), options, where);
  }

  /// Blocks until there is an item; empty once the channel is closed and drained. Throws as
  /// send_blocking does.
  std::optional<T> receive_blocking(blocking_options options = {},
                                    std::source_location where = std::source_location::current()) {
    return state_->receive_blocking(options, where);
  }

  /// Moves `item` into the channel if that is possible at once. False: it is full, or closed, or
  /// nobody is waiting for a rendezvous; `item` is as it was.
  [[nodiscard]] bool try_send(T& item) noexcept {
    return state_->send_from_thread(item) == detail::channel_core::attempt::done;
  }
  /// The next item, if there is one now.
  [[nodiscard]] std::optional<T> try_receive() noexcept {
    std::optional<T> item;
    state_->receive_in_thread(item);
    return item;
  }

  /// Wakes everybody. May be called again.
  void close() noexcept { state_->close(); }
  bool is_closed() const noexcept { return state_->is_closed(); }

  /// How many items are in the buffer; already out of date where others use the channel.
  std::size_t size() const noexcept { return state_->size(); }
  std::size_t capacity() const noexcept { return state_->capacity(); }

private:
  const detail::ref_ptr<detail::channel_state<T>> state_;
};

}  // namespace bothworlds
