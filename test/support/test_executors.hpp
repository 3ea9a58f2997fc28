// SPDX-License-Identifier: BSL-1.0
#pragma once

/// Executors of a user's own making, as `any_io_executor` takes them.

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/execution/blocking.hpp>
#include <boost/asio/execution/context.hpp>
#include <boost/asio/query.hpp>
#include <boost/asio/require.hpp>

#include <atomic>
#include <memory>
#include <thread>
#include <utility>

namespace bothworlds::testing {

/// What the executors below share: never blocking, and in the execution context that is given.
template <class Derived>
class user_executor {
public:
  explicit user_executor(boost::asio::execution_context& context) : context_(&context) {}

  boost::asio::execution_context& query(boost::asio::execution::context_t) const noexcept {
    return *context_;
  }
  static constexpr boost::asio::execution::blocking_t query(
      boost::asio::execution::blocking_t) noexcept {
    return boost::asio::execution::blocking.never;
  }
  Derived require(boost::asio::execution::blocking_t::never_t) const {
    return static_cast<const Derived&>(*this);
  }

  friend bool operator==(const Derived& a, const Derived& b) noexcept { return a.same_as(b); }
  friend bool operator!=(const Derived& a, const Derived& b) noexcept { return !a.same_as(b); }

private:
  boost::asio::execution_context* context_;
};

/// Counts what it hands on.
class counting_executor : public user_executor<counting_executor> {
public:
  counting_executor(boost::asio::any_io_executor target, std::shared_ptr<std::atomic<int>> calls)
      : user_executor(boost::asio::query(target, boost::asio::execution::context)),
        target_(boost::asio::require(std::move(target), boost::asio::execution::blocking.never)),
        calls_(std::move(calls)) {}

  template <class F>
  void execute(F&& f) const {
    ++*calls_;
    target_.execute(std::forward<F>(f));
  }
  bool same_as(const counting_executor& other) const noexcept { return target_ == other.target_; }

private:
  boost::asio::any_io_executor target_;
  std::shared_ptr<std::atomic<int>> calls_;
};

struct submit_refused {};

/// Takes no work.
class refusing_executor : public user_executor<refusing_executor> {
public:
  using user_executor::user_executor;

  template <class F>
  void execute(F&&) const {
    throw submit_refused{};
  }
  bool same_as(const refusing_executor&) const noexcept { return true; }
};

/// A new thread for everything, gone at once when it is done.
class thread_per_call_executor : public user_executor<thread_per_call_executor> {
public:
  using user_executor::user_executor;

  template <class F>
  void execute(F&& f) const {
    std::thread([f = std::forward<F>(f)]() mutable { std::move(f)(); }).detach();
  }
  bool same_as(const thread_per_call_executor&) const noexcept { return true; }
};

}  // namespace bothworlds::testing
