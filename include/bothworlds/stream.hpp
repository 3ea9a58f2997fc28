// SPDX-License-Identifier: BSL-1.0
//
// Walking: a blocking source from async code, an async source from blocking code.
#pragma once

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/detail/stream_walk.hpp>
#include <bothworlds/detail/sync_range.hpp>
#include <bothworlds/worker_pool.hpp>

#include <boost/asio/awaitable.hpp>

#include <cstddef>
#include <optional>
#include <ranges>
#include <source_location>
#include <type_traits>
#include <utility>

namespace bothworlds {

struct stream_options {
  std::size_t read_ahead =
      64;  ///< items that may have been found and not yet asked for; 0 counts as 1
  worker_pool* pool = nullptr;          ///< null: default_worker_pool()
  capacity_limiter* limiter = nullptr;  ///< held for the whole walk
  const char* name = nullptr;           ///< shown in reports; null: file:line of to_async_stream
};

/// A blocking source as async code walks it: `while (auto item = co_await stream.next())`.
///
/// Move-only. For one consumer: one next() at a time. Dropping it, at any time and wherever that
/// is, leaves the walk: the source is destroyed on its thread after the step it is in.
template <class T>
class [[nodiscard]] async_stream {
public:
  using value_type = T;

  async_stream(async_stream&&) noexcept = default;
  async_stream& operator=(async_stream&& other) noexcept {
    std::swap(walk_, other.walk_);
    return *this;
  }
  ~async_stream() {
    if (walk_) detail::stream_walk<T>::leave(*walk_);
  }

  /// The next item; empty at the end. Throws, once and in its place, what a step has thrown; then
  /// it is at its end. What is there already is given without suspending. Cancelled, it throws
  /// operation_aborted and loses no item; the walk goes on.
  [[nodiscard("co_await it")]] asio::awaitable<std::optional<T>> next() {
    return detail::stream_walk<T>::next(walk_);
  }

  /// Leaves the walk and resumes when the source has been destroyed on its thread.
  [[nodiscard("co_await it")]] asio::awaitable<void> close() {
    return detail::stream_walk<T>::close(walk_);
  }

private:
  template <class Source>
  friend auto to_async_stream(Source source, stream_options options, std::source_location where);

  explicit async_stream(detail::ref_ptr<detail::stream_walk<T>> walk) noexcept
      : walk_(std::move(walk)) {}

  detail::ref_ptr<detail::stream_walk<T>> walk_;
};

/// Walks a blocking source for async code.
///
/// Source      an input range, given away (a container's items are moved out of it, a view's are
/// copied); or a callable
///             that blocks for the next item and returns an empty std::optional at the end.
/// Runs        at the first next(), as one call of sync_to_async on the coroutine that asks: every
/// step is made on one
///             worker, which is occupied until the end, in one context that inherits the values
///             seen there. It reads ahead, bounded by options.read_ahead, and waits, blocked, where
///             that is reached. Its items arrive in order.
/// Returns     an async_stream of the source's values.
/// Closing     the source is destroyed on that worker: at the end before the end is seen, after an
/// exception before it is
///             thrown, left early after the step that runs. A source that was never asked is
///             destroyed on another thread. Never on the loop.
/// Not for     a source whose steps need no blocking: just walk it.
template <class Source>
auto to_async_stream(Source source, stream_options options = {},
                     std::source_location where = std::source_location::current()) {
  static_assert(std::ranges::input_range<Source> || detail::pull_source<Source>,
                "to_async_stream: give it an input range, or a blocking callable that returns a "
                "std::optional");
  using walk = detail::stream_walk_of<Source>;
  async_options naming;
  naming.name = options.name;
  sync_options how;
  how.pool = options.pool;
  how.limiter = options.limiter;
  how.name = detail::name_of(naming);
  return async_stream<typename walk::item>(
      detail::ref_ptr<detail::stream_walk<typename walk::item>>(
          new walk(std::move(source), options.read_ahead, how, where)));
}

/// Walks an async source from blocking code: `for (auto& item : to_sync_range(std::move(stream)))`.
///
/// Stream      anything with `next()` that gives an `awaitable<std::optional<T>>`, given away;
/// moved, not copied. Runs        each next() as a call of async_to_sync, and follows its rows:
/// "Where code runs". Nothing runs ahead of the
///             loop's body. The first item is asked for by begin().
/// Returns     an input range, move-only; begin() may be called once. Do not move it while it is
/// walked. Throws      from begin() and ++, what next() throws, and what async_to_sync throws; then
/// the range is at its end. Leaving     at the end or early, the destructor awaits
/// `stream.close()`, if there is such a thing, and destroys the
///             stream, both on its loop, and blocks until that is done. What close() throws is
///             reported on stderr.
template <class Stream>
[[nodiscard]] auto to_sync_range(Stream stream,
                                 std::source_location where = std::source_location::current()) {
  static_assert(
      requires { requires is_awaitable_v<decltype(stream.next())>; },
      "to_sync_range: give it an object with a member next() that returns an awaitable of a "
      "std::optional");
  return detail::sync_range<Stream>(std::move(stream), where);
}

}  // namespace bothworlds
