// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "worker_pool_core.hpp"

#include <source_location>
#include <utility>

namespace bothworlds::detail {

/// The library's own threads: those that turn a loop while its thread is busy, and those of
/// dedicated lanes. Not a pool for callables: it has no limit that could make one of them wait for
/// another.
worker_pool_core& thread_cache();

/// Calls `function`, which must not throw, once on such a thread. `where`: for reports. Throws
/// std::bad_alloc, and what starting a thread throws; then it is never called.
template <class F>
void run_on_library_thread(F function,
                           std::source_location where = std::source_location::current()) {
  class job final : public work {
  public:
    job(F what, std::source_location place) : work(place), function_(std::move(what)) {}
    void run() noexcept override {
      const ref_ptr<job> self(this, false);
      function_();
    }
    // Only a pool that is shut down refuses, and the thread cache never is.
    void refuse(std::exception_ptr) noexcept override { const ref_ptr<job> self(this, false); }

  private:
    F function_;
  };
  const ref_ptr<job> queued(new job(std::move(function), where));
  thread_cache().submit(*queued, false);
}

}  // namespace bothworlds::detail
