// SPDX-License-Identifier: BSL-1.0
//
// A blocking source that is walked for async code.
//
// The walk is one callable, run by one crossing from the first step to the last, so that it has one
// thread and one context. It owns the source: it makes the steps, and destroys the source there,
// before anybody hears of the end. What it finds goes through a channel. To leave early is to close
// that channel: the walk is refused its next item, and ends. The consumer takes what has gathered
// in the channel at once, so a wake is paid for a batch, not for an item.
#pragma once

#include <bothworlds/context.hpp>
#include <bothworlds/detail/channel_state.hpp>
#include <bothworlds/detail/continuation.hpp>
#include <bothworlds/detail/ref_counted.hpp>
#include <bothworlds/sync_to_async.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/this_coro.hpp>

#include <cstddef>
#include <exception>
#include <optional>
#include <ranges>
#include <source_location>
#include <type_traits>
#include <utility>
#include <vector>

namespace bothworlds::detail {

template <class T>
struct optional_traits : std::false_type {};
template <class T>
struct optional_traits<std::optional<T>> : std::true_type {
  using value_type = T;
};

/// A callable that gives the next item, and an empty optional at the end.
template <class S>
concept pull_source = !std::ranges::input_range<S> && std::is_invocable_v<S&> &&
                      optional_traits<std::remove_cvref_t<std::invoke_result_t<S&>>>::value;

template <class S>
consteval auto find_item_type() {
  if constexpr (std::ranges::input_range<S>)
    return std::type_identity<std::ranges::range_value_t<S>>{};
  else
    return std::type_identity<
        typename optional_traits<std::remove_cvref_t<std::invoke_result_t<S&>>>::value_type>{};
}

/// Calls `last`, which may block, on a thread of the library; here, if there is none to be had.
BOTHWORLDS_API void run_off_loop(continuation last) noexcept;

BOTHWORLDS_COROUTINE_TEMPLATES_BEGIN

template <class T>
class stream_walk : public ref_counted {
public:
  stream_walk(std::size_t read_ahead, const sync_options& options, std::source_location where)
      : items_(new channel_state<T>((read_ahead + 1) / 2)),
        ended_(new channel_state<char>(0)),
        options_(options),
        where_(where) {}

  static asio::awaitable<std::optional<T>> next(ref_ptr<stream_walk> walk) {
    if (walk->taken_ != walk->batch_.size()) co_return std::move(walk->batch_[walk->taken_++]);
    if (!walk->begun_) {
      asio::co_spawn(co_await asio::this_coro::executor, begin(walk), asio::detached);
      walk->begun_ = true;  // not where that has thrown
    }
    std::optional<T> item = co_await receive_from<T>(walk->items_, walk->where_);
    if (item) {
      walk->batch_.clear();
      walk->taken_ = 0;
      walk->items_->receive_buffer(walk->batch_);
    } else if (walk->failure_) {
      std::rethrow_exception(std::exchange(walk->failure_, nullptr));
    }
    co_return item;
  }

  /// Nobody wants more. Resumes when the source is gone.
  static asio::awaitable<void> close(ref_ptr<stream_walk> walk) {
    leave(*walk);
    co_await receive_from<char>(walk->ended_, walk->where_);
  }

  static void leave(stream_walk& walk) noexcept {
    walk.items_->close();
    if (!std::exchange(walk.begun_, true)) end_off_loop(ref_ptr<stream_walk>(&walk));
  }

protected:
  ~stream_walk() override = default;

  /// False: nobody wants more, or the source has forked and this is the child.
  bool give(T item) {
    return !items_->is_of_parent_process() &&
           items_->send_blocking(std::move(item), blocking_options{}, where_);
  }
  bool is_left() const noexcept { return items_->is_closed(); }

private:
  virtual void walk() = 0;
  virtual void close_source() noexcept = 0;

  static asio::awaitable<void> begin(ref_ptr<stream_walk> walk) {
    bool refused = false;
    try {
      const auto all_of_it = [walk] { walk->run(); };
      auto crossing = sync_to_async(all_of_it, walk->options_, walk->where_);
      co_await std::move(crossing)();
    } catch (...) {
      walk->failure_ = std::current_exception();
      refused = true;
    }
    if (refused) end_off_loop(walk);
  }

  // On the walk's thread.
  void run() noexcept {
    try {
      context::current().run([this] { walk_to_the_end(); });
    } catch (...) {
      // There is no memory for a context, and nothing has begun.
      failure_ = std::current_exception();
      end();
    }
  }

  void walk_to_the_end() noexcept {
    try {
      if (!is_left()) walk();
    } catch (...) {
      failure_ = std::current_exception();
    }
    end();
  }

  void end() noexcept {
    if (items_->is_of_parent_process()) return;
    close_source();
    items_->close();
    ended_->close();
  }
  static void end_off_loop(const ref_ptr<stream_walk>& walk) noexcept {
    run_off_loop(continuation([walk] { walk->end(); }));
  }

  const ref_ptr<channel_state<T>> items_;
  const ref_ptr<channel_state<char>> ended_;  // closed when the source is gone
  const sync_options options_;
  const std::source_location where_;
  std::exception_ptr failure_;  // the walk, before it closes items_; then the consumer
  std::vector<T> batch_;        // the consumer, like the next two
  std::size_t taken_ = 0;
  bool begun_ = false;
};

BOTHWORLDS_COROUTINE_TEMPLATES_END

template <class Source>
class stream_walk_of final : public stream_walk<typename decltype(find_item_type<Source>())::type> {
public:
  using item = typename decltype(find_item_type<Source>())::type;

  stream_walk_of(Source source, std::size_t read_ahead, const sync_options& options,
                 std::source_location where)
      : stream_walk<item>(read_ahead, options, where), source_(std::move(source)) {}

private:
  ~stream_walk_of() override = default;

  void walk() override {
    if constexpr (std::ranges::input_range<Source>) {
      const auto end = std::ranges::end(*source_);
      for (auto at = std::ranges::begin(*source_); at != end; ++at)
        if (!this->give(item_at(at))) return;
    } else {
      while (std::optional<item> next = (*source_)())
        if (!this->give(*std::move(next))) return;
    }
  }

  // Out of a container that the walk owns items are moved; what a view shows belongs to somebody
  // else.
  template <class Iterator>
  static item item_at(const Iterator& at) {
    if constexpr (std::ranges::view<Source>)
      return item(*at);
    else
      return item(std::ranges::iter_move(at));
  }

  void close_source() noexcept override { source_.reset(); }

  std::optional<Source> source_;  // the walk's thread, once it has begun
};

}  // namespace bothworlds::detail
