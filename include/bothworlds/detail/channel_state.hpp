// SPDX-License-Identifier: BSL-1.0
//
// The typed shell around a channel_core: the buffer, and how an item is moved.
#pragma once

#include <bothworlds/detail/async_call.hpp>
#include <bothworlds/detail/channel_core.hpp>

#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>

#include <cstddef>
#include <memory>
#include <optional>
#include <source_location>
#include <utility>
#include <vector>

namespace bothworlds::detail {

template <class T>
class channel_wait_for final : public channel_wait {
public:
  channel_wait_for(ref_ptr<channel_core> channel, direction way, std::source_location where,
                   std::optional<T> item = {}) noexcept
      : channel_wait(std::move(channel), way, where), item_(std::move(item)) {}

  std::optional<T> take() noexcept { return std::move(item_); }

private:
  ~channel_wait_for() override = default;
  void* source() noexcept override { return &*item_; }
  void* target() noexcept override { return &item_; }

  std::optional<T> item_;  // the channel's mutex while this stands in line, then the one who waits
};

template <class T>
class channel_state final : public channel_core {
public:
  using slot = std::optional<T>;

  explicit channel_state(std::size_t capacity)
      : channel_core(capacity), buffer_(capacity ? std::make_unique<slot[]>(capacity) : nullptr) {}

  attempt send_from_coroutine(T& item) noexcept { return try_send(&item, true); }
  attempt receive_in_coroutine(slot& item) noexcept { return try_receive(&item, true); }
  attempt send_from_thread(T& item) noexcept { return try_send(&item, false); }
  attempt receive_in_thread(slot& item) noexcept { return try_receive(&item, false); }
  /// Without waiting, all that is in the buffer now.
  void receive_buffer(std::vector<T>& into) {
    into.reserve(into.size() + capacity());
    take_buffer(&into);
  }

  bool send_blocking(T&& item, const blocking_options& options, std::source_location where) {
    check_may_block("channel::send_blocking", where, nullptr);
    attempt now = send_from_thread(item);
    if (now == attempt::would_wait && look_out(channel_wait::direction::send))
      now = send_from_thread(item);
    if (now != attempt::would_wait) return now == attempt::done;
    const ref_ptr<channel_wait> wait(new channel_wait_for<T>(
        ref_ptr<channel_core>(this), channel_wait::direction::send, where, std::move(item)));
    wait->block(options);
    return wait->succeeded();
  }

  slot receive_blocking(const blocking_options& options, std::source_location where) {
    check_may_block("channel::receive_blocking", where, nullptr);
    slot item;
    attempt now = receive_in_thread(item);
    if (now == attempt::would_wait && look_out(channel_wait::direction::receive))
      now = receive_in_thread(item);
    if (now != attempt::would_wait) return item;
    const ref_ptr<channel_wait_for<T>> wait(new channel_wait_for<T>(
        ref_ptr<channel_core>(this), channel_wait::direction::receive, where));
    wait->block(options);
    if (!wait->succeeded()) return {};
    return wait->take();
  }

private:
  ~channel_state() override = default;

  void store(void* from) noexcept override {
    buffer_[next_in_].emplace(std::move(*static_cast<T*>(from)));
    next_in_ = next_in_ + 1 == capacity() ? 0 : next_in_ + 1;
  }
  void load(void* into) noexcept override {
    static_cast<slot*>(into)->emplace(*std::move(buffer_[next_out_]));
    forget_oldest();
  }
  void load_at_end_of(void* into) noexcept override {
    static_cast<std::vector<T>*>(into)->push_back(*std::move(buffer_[next_out_]));
    forget_oldest();
  }
  void forget_oldest() noexcept {
    buffer_[next_out_].reset();
    next_out_ = next_out_ + 1 == capacity() ? 0 : next_out_ + 1;
  }
  void hand_over(void* from, void* into) noexcept override {
    static_cast<slot*>(into)->emplace(std::move(*static_cast<T*>(from)));
  }

  const std::unique_ptr<slot[]> buffer_;  // the mutex, as the next two
  std::size_t next_in_ = 0;
  std::size_t next_out_ = 0;
};

BOTHWORLDS_COROUTINE_TEMPLATES_BEGIN

template <class T>
asio::awaitable<void> send_to(ref_ptr<channel_state<T>> channel, T item,
                              std::source_location where) {
  using attempt = channel_core::attempt;
  attempt now = channel->send_from_coroutine(item);
  while (now == attempt::yield) {
    co_await asio::post(asio::deferred);
    now = channel->send_from_coroutine(item);
  }
  if (now == attempt::would_wait) {
    const ref_ptr<channel_wait_for<T>> wait(
        new channel_wait_for<T>(channel, channel_wait::direction::send, where, std::move(item)));
    wait->prepare_resumption(co_await asio::this_coro::executor, where);
    co_await asio::async_initiate<const asio::deferred_t&, void()>(
        start_channel_wait(), asio::deferred, static_cast<channel_wait*>(wait.get()));
    if (wait->succeeded()) co_return;
    now = attempt::closed;
  }
  if (now == attempt::closed) throw_channel_closed();
}

template <class T>
asio::awaitable<std::optional<T>> receive_from(ref_ptr<channel_state<T>> channel,
                                               std::source_location where) {
  using attempt = channel_core::attempt;
  std::optional<T> item;
  attempt now = channel->receive_in_coroutine(item);
  while (now == attempt::yield) {
    co_await asio::post(asio::deferred);
    now = channel->receive_in_coroutine(item);
  }
  if (now != attempt::would_wait) co_return item;
  const ref_ptr<channel_wait_for<T>> wait(
      new channel_wait_for<T>(channel, channel_wait::direction::receive, where));
  wait->prepare_resumption(co_await asio::this_coro::executor, where);
  co_await asio::async_initiate<const asio::deferred_t&, void()>(
      start_channel_wait(), asio::deferred, static_cast<channel_wait*>(wait.get()));
  if (wait->succeeded()) item = wait->take();
  co_return item;
}

BOTHWORLDS_COROUTINE_TEMPLATES_END

}  // namespace bothworlds::detail
