// SPDX-License-Identifier: BSL-1.0
//
// The least that a coroutine can cost: made, run to its end on the spot, its result taken,
// destroyed.
#pragma once

#include <coroutine>
#include <exception>
#include <utility>

namespace bench {

class bare_coroutine {
public:
  struct promise_type {
    bare_coroutine get_return_object() {
      return bare_coroutine(std::coroutine_handle<promise_type>::from_promise(*this));
    }
    std::suspend_always initial_suspend() noexcept { return {}; }
    std::suspend_always final_suspend() noexcept { return {}; }
    void return_value(int result) noexcept { value = result; }
    void unhandled_exception() noexcept { std::terminate(); }
    int value = 0;
  };

  bare_coroutine(bare_coroutine&& other) noexcept
      : handle_(std::exchange(other.handle_, nullptr)) {}
  bare_coroutine& operator=(bare_coroutine&&) = delete;
  ~bare_coroutine() {
    if (handle_) handle_.destroy();
  }

  /// Resumes it until it has ended.
  int run() {
    while (!handle_.done()) handle_.resume();
    return handle_.promise().value;
  }

private:
  explicit bare_coroutine(std::coroutine_handle<promise_type> handle) : handle_(handle) {}

  std::coroutine_handle<promise_type> handle_;
};

}  // namespace bench
