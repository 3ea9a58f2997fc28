// SPDX-License-Identifier: BSL-1.0
//
// Ctrl-C as an exception in a coroutine, so that everything it was doing unwinds in order.
#pragma once

#include "in_parallel.hpp"

#include <csignal>
#include <exception>
#include <utility>

namespace demo {

/// Thrown by `until_signal` and `interruptible`.
class interruption : public std::exception {
public:
  explicit interruption(int signal) noexcept : signal_(signal) {}
  int signal() const noexcept { return signal_; }
  const char* what() const noexcept override { return signal_ == SIGINT ? "SIGINT" : "SIGTERM"; }

private:
  int signal_;
};

/// From now on SIGINT and SIGTERM do not end the process but wait for `until_signal`: one that
/// comes while nobody listens, between two calls, is kept. To be called before the first thread is
/// started.
void hold_signals();

/// Never returns: throws `interruption` at the first SIGINT or SIGTERM.
asio::awaitable<void> until_signal();

/// Does `work`; a signal cancels it, and once it has unwound `interruption` is thrown.
template <class T>
asio::awaitable<T> interruptible(asio::awaitable<T> work) {
  return alongside(std::move(work), until_signal());
}

}  // namespace demo
