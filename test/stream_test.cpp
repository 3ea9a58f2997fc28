// SPDX-License-Identifier: BSL-1.0

#include "support/call_tools.hpp"
#include "support/captured_stderr.hpp"
#include "support/kernel_thread_id.hpp"
#include "support/loop_tools.hpp"

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/byte_stream.hpp>
#include <bothworlds/channel.hpp>
#include <bothworlds/context.hpp>
#include <bothworlds/error.hpp>
#include <bothworlds/stream.hpp>
#include <bothworlds/sync_to_async.hpp>

#include <boost/asio/buffer.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>
#include <doctest/doctest.h>

#include <atomic>
#include <list>
#include <memory>
#include <numeric>
#include <optional>
#include <ranges>
#include <sstream>
#include <stdexcept>
#include <streambuf>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace bothworlds::testing;
using bothworlds::async_stream;
using bothworlds::async_to_sync;
using bothworlds::context_var;
using bothworlds::sync_to_async;
using bothworlds::to_async_stream;
using bothworlds::to_sync_range;

namespace {

/// What a source tells of its walk.
struct diary {
  std::atomic<int> steps{0};
  std::atomic<int> closings{0};
  std::atomic<long> closed_on{0};
  std::vector<long> stepped_on;  // the walk's thread; read after it has ended
  gate closed;
};

/// Counts from 0 to `end`, and writes down where that happens.
class counter {
public:
  counter(diary& written, int end) : diary_(&written), end_(end) {}
  counter(counter&& other) noexcept
      : diary_(std::exchange(other.diary_, nullptr)), end_(other.end_), next_(other.next_) {}
  counter& operator=(counter&&) = delete;
  ~counter() {
    if (!diary_) return;
    diary_->closed_on = kernel_thread_id();
    ++diary_->closings;
    diary_->closed.open();
  }

  std::optional<int> operator()() {
    diary_->stepped_on.push_back(kernel_thread_id());
    ++diary_->steps;
    if (next_ == end_) return {};
    return next_++;
  }

private:
  diary* diary_;
  int end_;
  int next_ = 0;
};

template <class T>
awaitable<std::vector<T>> collect(async_stream<T> stream) {
  std::vector<T> all;
  for (;;) {
    std::optional<T> item = co_await stream.next();
    if (!item) co_return all;
    all.push_back(*std::move(item));
  }
}

std::vector<int> numbers(int count) {
  std::vector<int> all(count);
  std::iota(all.begin(), all.end(), 0);
  return all;
}

/// An async source: numbers, each after a turn of the loop.
class async_counter {
public:
  async_counter(diary& written, int end) : diary_(&written), end_(end) {}
  async_counter(async_counter&& other) noexcept
      : diary_(std::exchange(other.diary_, nullptr)), end_(other.end_), next_(other.next_) {}
  async_counter& operator=(async_counter&&) = delete;
  ~async_counter() {
    if (diary_) ++diary_->closings;
  }

  awaitable<std::optional<int>> next() {
    co_await yield_to_loop();
    ++diary_->steps;
    if (next_ == end_) co_return std::nullopt;
    co_return next_++;
  }

private:
  diary* diary_;
  int end_;
  int next_ = 0;
};

}  // namespace

TEST_CASE(
    "sync_generator_steps: one thread and one context for the whole walk; the source is closed "
    "there, once, off the loop") {
  const context_var<int> value("value", 0);
  for (const std::size_t read_ahead : {1, 2, 64}) {
    CAPTURE(read_ahead);
    diary written;
    async_to_sync([&]() -> awaitable<void> {
      value.set(5);
      int seen_last = 0;
      auto source = [&, from = counter(written, 200)]() mutable -> std::optional<int> {
        // What one step sets, the next one sees; and the first one what is set around the walk.
        CHECK(value.get() == 5 + written.steps);
        value.set(value.get() + 1);
        return from();
      };
      auto stream = to_async_stream(std::move(source), {.read_ahead = read_ahead});
      for (;;) {
        const std::optional<int> item = co_await stream.next();
        if (!item) break;
        CHECK(*item == seen_last++);
        CHECK(value.get() == 5);
      }
      CHECK(seen_last == 200);
      CHECK(written.closings == 1);  // before the end was seen
      CHECK(value.get() == 5);
      const std::optional<int> past_the_end = co_await stream.next();
      CHECK_FALSE(past_the_end);
    })();
    CHECK(written.closings == 1);
    CHECK(written.stepped_on == std::vector<long>(201, written.closed_on));
    CHECK(written.closed_on != kernel_thread_id());
  }
}

TEST_CASE("any range can be walked: containers are moved from, views are copied from") {
  run_async_root([]() -> awaitable<void> {
    std::vector<std::unique_ptr<int>> owned;
    for (int i = 0; i < 100; ++i) owned.push_back(std::make_unique<int>(i));
    const auto pointers = co_await collect(to_async_stream(std::move(owned)));
    CHECK(pointers.size() == 100);
    CHECK(*pointers[99] == 99);

    std::vector<std::string> kept{"a long string that is not stored in place", "b"};
    const auto copies = co_await collect(to_async_stream(std::views::all(kept)));
    CHECK(copies == kept);
    CHECK(kept[0].size() > 20);

    const auto squares = co_await collect(to_async_stream(
        std::views::iota(0, 5) | std::views::transform([](int i) { return i * i; })));
    CHECK(squares == std::vector<int>{0, 1, 4, 9, 16});
    const auto none = co_await collect(to_async_stream(std::list<int>()));
    CHECK(none.empty());

    std::istringstream words("as they come");
    const auto read = co_await collect(to_async_stream(std::views::istream<std::string>(words)));
    CHECK(read == std::vector<std::string>{"as", "they", "come"});
  });
}

TEST_CASE("reading ahead is bounded, and goes on without being asked up to the bound") {
  diary written;
  run_async_root([&]() -> awaitable<void> {
    auto stream = to_async_stream(counter(written, 1000), {.read_ahead = 10});
    co_await stream.next();
    // One was given; what is in the channel, in the batch and in the hand of the walk comes on top.
    const bool full = co_await comes_true_on_loop([&] { return written.steps >= 6; });
    CHECK(full);
    for (int i = 0; i < 20; ++i) co_await yield_to_loop();
    CHECK(written.steps <= 1 + 10 + 1);
    for (int i = 1; i < 500; ++i) {
      const std::optional<int> item = co_await stream.next();
      CHECK(item == i);
      CHECK(written.steps <= i + 1 + 10 + 1);
    }
    co_await stream.close();
    CHECK(written.closings == 1);
  });
}

TEST_CASE("an exception comes in its place, once, after everything that was found before it") {
  diary written;
  run_async_root([&]() -> awaitable<void> {
    auto source = [from = counter(written, 100)]() mutable -> std::optional<int> {
      const std::optional<int> item = from();
      if (item == 30) throw std::runtime_error("at thirty");
      return item;
    };
    auto stream = to_async_stream(std::move(source));
    int received = 0;
    std::string thrown;
    try {
      while (co_await stream.next()) ++received;
    } catch (const std::runtime_error& e) {
      thrown = e.what();
    }
    CHECK(received == 30);
    CHECK(thrown == "at thirty");
    CHECK(written.closings == 1);
    const std::optional<int> after = co_await stream.next();
    CHECK_FALSE(after);
  });
}

TEST_CASE(
    "leaving early closes the source on its thread, once, and the loop does not wait for it") {
  diary written;
  gate in_step;
  gate go_on;
  run_async_root([&]() -> awaitable<void> {
    auto source = [&, from = counter(written, 1000)]() mutable -> std::optional<int> {
      if (written.steps == 3) {
        in_step.open();
        go_on.wait();
      }
      return from();
    };
    {
      auto stream = to_async_stream(std::move(source));
      co_await stream.next();
      auto wait = sync_to_async([&] { in_step.wait(); });
      co_await wait();
    }
    CHECK(written.closings == 0);  // the step is still running
    go_on.open();
    const bool closed = co_await comes_true_on_loop([&] { return written.closings == 1; });
    CHECK(closed);
  });
  CHECK(written.closings == 1);
  CHECK(written.closed_on == written.stepped_on.front());
  CHECK(written.closed_on != kernel_thread_id());
}

TEST_CASE("a source that was never asked is not walked, and destroyed off the loop all the same") {
  diary written;
  run_async_root([&]() -> awaitable<void> {
    {
      const auto stream = to_async_stream(counter(written, 5));
    }
    auto wait = sync_to_async([&] { written.closed.wait(); });
    co_await wait();
    auto closed = to_async_stream(std::vector<int>{1, 2});
    co_await closed.close();
    const std::optional<int> item = co_await closed.next();
    CHECK_FALSE(item);
  });
  CHECK(written.steps == 0);
  CHECK(written.closings == 1);
  CHECK(written.closed_on != kernel_thread_id());
}

TEST_CASE("a cancelled next() loses no item, and a walk that the pool refuses says so") {
  run_async_root([]() -> awaitable<void> {
    const asio::any_io_executor executor = co_await asio::this_coro::executor;
    gate go_on;
    auto source = [&go_on, at = 0]() mutable -> std::optional<int> {
      if (at == 0) go_on.wait();
      return at < 3 ? std::optional(at++) : std::nullopt;
    };
    auto stream = to_async_stream(std::move(source));
    const auto ask = [&]() -> awaitable<void> { co_await stream.next(); };
    const child_task asking(executor, ask);
    co_await yield_to_loop();
    asking.cancel();
    const bool cancelled = co_await ends_cancelled(asking);
    CHECK(cancelled);
    go_on.open();
    const auto rest = co_await collect(std::move(stream));
    CHECK(rest == numbers(3));

    bothworlds::worker_pool pool;
    pool.shutdown(std::chrono::seconds(1));
    diary written;
    boost::system::error_code refused;
    try {
      auto unlucky = to_async_stream(counter(written, 3), {.pool = &pool});
      co_await unlucky.next();
    } catch (const bothworlds::error& e) {
      refused = e.code();
    }
    CHECK(refused == bothworlds::errc::pool_closed);
    const bool closed = co_await comes_true_on_loop([&] { return written.closings == 1; });
    CHECK(closed);
    CHECK(written.closed_on != kernel_thread_id());
  });
}

TEST_CASE(
    "an async source is an input range for blocking code, on the thread's own loop and in a "
    "callable") {
  diary written;
  using range = decltype(to_sync_range(async_counter(written, 1)));
  static_assert(std::ranges::input_range<range>);
  static_assert(!std::is_copy_constructible_v<range>);
  const auto walk = [&] {
    std::vector<int> all;
    for (const int item : to_sync_range(async_counter(written, 50))) all.push_back(item);
    return all;
  };
  CHECK(walk() == numbers(50));
  CHECK(written.closings == 1);
  run_async_root([&]() -> awaitable<void> {
    auto callable = sync_to_async(walk);
    const std::vector<int> all = co_await callable();
    CHECK(all == numbers(50));
  });
  CHECK(written.closings == 2);
  std::vector<int> first;
  for (const int item : to_sync_range(async_counter(written, 1000)) | std::views::take(3))
    first.push_back(item);
  CHECK(first == numbers(3));
  CHECK(written.closings == 3);
}

TEST_CASE("leaving a range early ends its producer, and waits for that") {
  diary written;
  {
    // There and back: a blocking source, walked by async code, walked by blocking code.
    for (const int item : to_sync_range(to_async_stream(counter(written, 1'000'000))))
      if (item == 100) break;
  }
  CHECK(written.closings == 1);
  CHECK(written.steps < 1000);

  struct failing {
    awaitable<std::optional<int>> next() {
      co_await yield_to_loop();
      if (asked++ == 2) throw std::runtime_error("no third");
      co_return asked;
    }
    awaitable<void> close() {
      co_await yield_to_loop();
      throw std::runtime_error("nor an end");
    }
    int asked = 0;
  };
  const captured_stderr captured;
  int items = 0;
  CHECK_THROWS_WITH_AS(
      [&] {
        for ([[maybe_unused]] const int item : to_sync_range(failing())) ++items;
      }(),
      "no third", std::runtime_error);
  CHECK(items == 2);
  CHECK(captured.text().find("nor an end") != std::string::npos);
}

namespace {

/// A blocking buffer: what one thread gives to it another one reads, a piece at a time.
class piped_buffer final : public std::streambuf {
public:
  void give(std::string piece) { CHECK(pieces_.try_send(piece)); }
  void end() { pieces_.close(); }
  long read_on() const { return read_on_; }

private:
  int_type underflow() override {
    read_on_ = kernel_thread_id();
    std::optional<std::string> piece = pieces_.receive_blocking();
    if (!piece) return traits_type::eof();
    current_ = *std::move(piece);
    setg(current_.data(), current_.data(), current_.data() + current_.size());
    return traits_type::to_int_type(current_.front());
  }

  bothworlds::channel<std::string> pieces_{100};
  std::string current_;
  std::atomic<long> read_on_{0};
};

}  // namespace

TEST_CASE(
    "a blocking istream is an AsyncReadStream: what is there is given, the loop turns while there "
    "is nothing") {
  piped_buffer pipe;
  std::istream blocking(&pipe);
  run_async_root([&]() -> awaitable<void> {
    const asio::any_io_executor executor = co_await asio::this_coro::executor;
    bothworlds::async_istream in(executor, blocking);
    CHECK(in.get_executor() == executor);
    std::string buffer;
    const auto read_line = [&]() -> awaitable<std::string> {
      const std::size_t length = co_await asio::async_read_until(in, asio::dynamic_buffer(buffer),
                                                                 '\n', asio::use_awaitable);
      std::string line = buffer.substr(0, length);
      buffer.erase(0, length);
      co_return line;
    };
    std::string line;
    const auto read = [&]() -> awaitable<void> { line = co_await read_line(); };
    const child_task reader(executor, read);
    for (int i = 0; i < 10; ++i) co_await yield_to_loop();
    pipe.give("first ");
    pipe.give("line\nsec");
    pipe.give("ond\n");
    pipe.end();
    co_await reader.join();
    CHECK(line == "first line\n");
    line = co_await read_line();
    CHECK(line == "second\n");
    boost::system::error_code at_end;
    char none = 0;
    const std::size_t got = co_await asio::async_read(
        in, asio::buffer(&none, 1), asio::redirect_error(asio::use_awaitable, at_end));
    CHECK(got == 0);
    CHECK(at_end == asio::error::eof);
    CHECK(pipe.read_on() != kernel_thread_id());
    // Nothing asked for is given at once, also at the end.
    const std::size_t nothing =
        co_await in.async_read_some(asio::mutable_buffer(), asio::use_awaitable);
    CHECK(nothing == 0);
  });
}

TEST_CASE("a blocking ostream is an AsyncWriteStream; what it refuses is an error") {
  run_async_root([&]() -> awaitable<void> {
    const asio::any_io_executor executor = co_await asio::this_coro::executor;
    std::ostringstream blocking;
    bothworlds::async_ostream out(executor, blocking);
    const std::string text(100'000, 'x');
    const std::size_t written = co_await asio::async_write(
        out, std::array{asio::buffer("head "), asio::buffer(text)}, asio::use_awaitable);
    CHECK(written == 6 + text.size());
    CHECK(blocking.str().size() == written);

    struct full final : std::streambuf {};
    full none;
    std::ostream refusing(&none);
    bothworlds::async_ostream broken(executor, refusing);
    boost::system::error_code failure;
    co_await broken.async_write_some(asio::buffer(text),
                                     asio::redirect_error(asio::use_awaitable, failure));
    CHECK(failure);

    struct throwing final : std::streambuf {
      int_type underflow() override { throw std::runtime_error("a broken device"); }
    };
    throwing device;
    std::istream failing(&device);
    bothworlds::async_istream in(executor, failing);
    char byte = 0;
    co_await in.async_read_some(asio::buffer(&byte, 1),
                                asio::redirect_error(asio::use_awaitable, failure));
    CHECK(failure == boost::system::errc::io_error);
  });
}
