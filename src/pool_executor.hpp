// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "lane.hpp"
#include "unhandled.hpp"
#include "worker_pool_core.hpp"

#include <bothworlds/detail/continuation.hpp>

#include <boost/asio/execution.hpp>

namespace bothworlds::detail {

/// One function that plain Asio code has given to a pool.
class posted_function final : public work {
public:
  explicit posted_function(continuation function)
      : work(std::source_location::current()), function_(std::move(function)) {}

  void run() noexcept override {
    const ref_ptr<posted_function> self(this, false);
    try {
      function_();
    } catch (...) {
      report_unhandled("a function executed on a worker pool");
    }
  }
  void refuse(std::exception_ptr) noexcept override {
    const ref_ptr<posted_function> self(this, false);
  }
  const char* name() const noexcept override { return "a function posted to the pool's executor"; }

private:
  continuation function_;
};

/// A worker pool as Asio sees it: never runs a function inside execute(), counts no outstanding
/// work.
class pool_executor {
public:
  explicit pool_executor(ref_ptr<worker_pool_core> pool) noexcept : pool_(std::move(pool)) {}
  // Written out because intrusive_ptr's own copy does not promise what Asio asks of an executor.
  pool_executor(const pool_executor& other) noexcept : pool_(other.pool_) {}
  pool_executor(pool_executor&& other) noexcept : pool_(std::move(other.pool_)) {}
  ~pool_executor() = default;

  asio::execution_context& query(asio::execution::context_t) const noexcept {
    return pool_->context();
  }
  asio::execution::blocking_t query(asio::execution::blocking_t) const noexcept {
    return asio::execution::blocking.never;
  }
  pool_executor require(asio::execution::blocking_t::never_t) const noexcept { return *this; }

  template <class F>
  void execute(F&& f) const {
    const ref_ptr<posted_function> item(new posted_function(continuation(std::forward<F>(f))));
    const ref_ptr<worker_pool_core> kept = pool_;  // the function may destroy the executor
    kept->submit(*item, false);
  }

  friend bool operator==(const pool_executor& a, const pool_executor& b) noexcept {
    return a.pool_ == b.pool_;
  }
  friend bool operator!=(const pool_executor& a, const pool_executor& b) noexcept {
    return !(a == b);
  }

private:
  ref_ptr<worker_pool_core> pool_;
};

}  // namespace bothworlds::detail
