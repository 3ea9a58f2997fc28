// SPDX-License-Identifier: BSL-1.0
//
// What synthetic_coroutine takes for granted of a coroutine's frame is asked of the compiler here.
#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/detail/synthetic_coroutine.hpp>
#include <bothworlds/sync_to_async.hpp>

#include <doctest/doctest.h>

#include <coroutine>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>

namespace asio = boost::asio;
using bothworlds::async_to_sync;
using bothworlds::sync_to_async;
using bothworlds::detail::synthetic_coroutine;

namespace {

using step = void (*)(void* frame);

// Volatile, so that the compiler does not see which function it is, and that clang's have a calling
// convention of their own.
step resume_in(void* frame) { return static_cast<volatile step*>(frame)[0]; }
step destroy_in(void* frame) { return static_cast<volatile step*>(frame)[1]; }

/// A real coroutine, whose promise has an alignment of its own.
template <std::size_t Alignment>
struct real {
  struct alignas(Alignment) promise_type {
    real get_return_object() { return {std::coroutine_handle<promise_type>::from_promise(*this)}; }
    std::suspend_always initial_suspend() noexcept { return {}; }
    std::suspend_always final_suspend() noexcept { return {}; }
    void return_void() noexcept {}
    void unhandled_exception() noexcept {}
  };
  std::coroutine_handle<promise_type> handle;
};

struct noted {
  explicit noted(int& at) : count(&at) {}
  noted(noted&& other) noexcept : count(std::exchange(other.count, nullptr)) {}
  ~noted() {
    if (count) ++*count;
  }
  int* count;
};

template <std::size_t Alignment>
real<Alignment> two_steps(int& steps, noted) {
  ++steps;
  co_await std::suspend_always();
  ++steps;
}

template <std::size_t Alignment>
void look_at_a_real_one() {
  int steps = 0, destroyed = 0;
  const auto handle = two_steps<Alignment>(steps, noted(destroyed)).handle;
  void* const frame = handle.address();
  resume_in(frame)(frame);
  CHECK(steps == 1);
  resume_in(frame)(frame);
  CHECK(steps == 2);
  CHECK(destroyed == 0);
  destroy_in(frame)(frame);
  CHECK(destroyed == 1);
}

template <std::size_t Alignment>
struct alignas(Alignment) promise_of_our_own {
  explicit promise_of_our_own() = default;
  int value = 7;
};

template <std::size_t Alignment>
struct ours : private synthetic_coroutine<promise_of_our_own<Alignment>, ours<Alignment>> {
  using promise_type = promise_of_our_own<Alignment>;
  using handle = std::coroutine_handle<promise_type>;
  friend class synthetic_coroutine<promise_type, ours>;

  handle make() {
    return handle::from_promise(this->template create<&ours::first, &ours::destroyed>());
  }
  void first() noexcept {
    steps += 1;
    this->template resume_with<&ours::second>();
  }
  void second() noexcept { steps += 10; }
  void destroyed() noexcept { gone = true; }

  int steps = 0;
  bool gone = false;
};

template <std::size_t Alignment>
void look_at_ours() {
  const auto subject = std::make_unique<ours<Alignment>>();
  const auto handle = subject->make();
  CHECK(handle.address() == subject.get());
  CHECK(handle.promise().value == 7);
  handle.resume();
  CHECK(subject->steps == 1);
  std::coroutine_handle<>::from_address(handle.address()).resume();
  CHECK(subject->steps == 11);
  CHECK_FALSE(subject->gone);
  handle.destroy();
  CHECK(subject->gone);
}

struct alignas(64) wide {
  explicit wide(int what) : value(what), own(this) {}
  wide(const wide& other) : value(other.value), own(this) {}
  bool is_in_place() const { return own == this; }
  int value;
  const wide* own;
};

}  // namespace

TEST_CASE("a frame begins with what resumes it and what destroys it") {
  look_at_a_real_one<8>();
  look_at_a_real_one<16>();
  look_at_a_real_one<32>();
}

TEST_CASE("a synthetic coroutine is resumed step by step, and destroyed, through its handle") {
  look_at_ours<8>();
  look_at_ours<16>();
  look_at_ours<32>();
  look_at_ours<64>();
}

TEST_CASE("a result of any size and alignment arrives through a synthetic coroutine") {
  const auto root = []() -> asio::awaitable<int> {
    const auto give_wide = [] { return wide(3); };
    const wide aligned = co_await sync_to_async(give_wide)();
    CHECK(aligned.is_in_place());
    const auto give_text = [] { return std::string(100, 'x'); };
    const std::string text = co_await sync_to_async(give_text)();
    CHECK(text == std::string(100, 'x'));
    const auto give_flag = [] { return true; };
    CHECK(co_await sync_to_async(give_flag)());
    co_return aligned.value;
  };
  CHECK(async_to_sync(root)() == 3);
}

TEST_CASE("a call whose awaitable is moved about, and dropped, lets go of what it holds") {
  const auto held = std::make_shared<int>(1);
  {
    const auto use = [](const std::shared_ptr<int>& what) { return *what; };
    const auto call = sync_to_async(use);
    asio::awaitable<int> first = call(held);
    const asio::awaitable<int> second = std::move(first);
    CHECK_FALSE(first.valid());
    CHECK(held.use_count() == 2);
  }
  CHECK(held.use_count() == 1);
}
