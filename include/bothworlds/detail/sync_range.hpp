// SPDX-License-Identifier: BSL-1.0
//
// An async stream as a range for blocking code.
#pragma once

#include <bothworlds/async_to_sync.hpp>

#include <boost/asio/awaitable.hpp>

#include <cstddef>
#include <iterator>
#include <memory>
#include <optional>
#include <source_location>
#include <type_traits>
#include <utility>

namespace bothworlds::detail {

/// Writes one line on stderr about the exception being handled, which closing a stream has thrown.
BOTHWORLDS_API void report_failed_close(std::source_location where) noexcept;

BOTHWORLDS_COROUTINE_TEMPLATES_BEGIN

// Takes the stream, so that it is gone when this has ended.
template <class Stream>
asio::awaitable<void> close_stream(std::unique_ptr<Stream> stream) {
  if constexpr (requires { requires is_awaitable_v<decltype(stream->close())>; })
    co_await stream->close();
}

template <class Stream>
class sync_range {
  using item = typename awaitable_traits<decltype(std::declval<Stream&>().next())>::value_type;

public:
  using value_type = typename item::value_type;

  class iterator {
  public:
    using iterator_concept = std::input_iterator_tag;
    using value_type = sync_range::value_type;
    using difference_type = std::ptrdiff_t;

    iterator(iterator&&) noexcept = default;
    iterator& operator=(iterator&&) noexcept = default;

    value_type& operator*() const noexcept { return *range_->item_; }
    value_type* operator->() const noexcept { return &*range_->item_; }
    iterator& operator++() {
      range_->advance();
      return *this;
    }
    void operator++(int) { range_->advance(); }
    friend bool operator==(const iterator& at, std::default_sentinel_t) noexcept {
      return at.is_at_end();
    }

  private:
    friend class sync_range;
    bool is_at_end() const noexcept { return !range_->item_; }
    explicit iterator(sync_range* range) noexcept : range_(range) {}
    sync_range* range_;
  };

  sync_range(Stream stream, std::source_location where)
      : stream_(std::make_unique<Stream>(std::move(stream))), where_(where) {}
  sync_range(sync_range&&) noexcept = default;
  sync_range& operator=(sync_range&& other) noexcept {
    std::swap(stream_, other.stream_);
    std::swap(item_, other.item_);
    std::swap(where_, other.where_);
    return *this;
  }
  ~sync_range() {
    if (!stream_) return;
    item_.reset();
    try {
      async_to_sync(&close_stream<Stream>, async_options{}, where_)(std::move(stream_));
    } catch (...) {
      report_failed_close(where_);
    }
  }

  iterator begin() {
    advance();
    return iterator(this);
  }
  std::default_sentinel_t end() const noexcept { return {}; }

private:
  void advance() {
    item_.reset();
    item_ = async_to_sync([this] { return stream_->next(); }, async_options{}, where_)();
  }

  std::unique_ptr<Stream> stream_;  // null: moved from
  std::optional<value_type> item_;
  std::source_location where_;
};

BOTHWORLDS_COROUTINE_TEMPLATES_END

}  // namespace bothworlds::detail
