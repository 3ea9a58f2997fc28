// SPDX-License-Identifier: BSL-1.0
//
// What calls queue for: every pool, every limiter, and every lane that a thread serves. For those
// who look for calls that have waited long.
#pragma once

#include <mutex>
#include <vector>

namespace bothworlds::detail {

class lane;
class limiter_core;
class worker_pool_core;

/// Where there is no memory for it, a resource is not listed. Whoever lists one takes it off the
/// list before it ends.
void list_resource(lane& subject) noexcept;
void list_resource(limiter_core& subject) noexcept;
void list_resource(worker_pool_core& subject) noexcept;
void unlist_resource(lane& subject) noexcept;
void unlist_resource(limiter_core& subject) noexcept;
void unlist_resource(worker_pool_core& subject) noexcept;

/// While it lives, what is listed stays. Taken before the mutex of anything that is listed.
struct listed_resources {
  listed_resources();

  const std::vector<lane*>& lanes() const noexcept { return *lanes_; }
  const std::vector<limiter_core*>& limiters() const noexcept { return *limiters_; }
  const std::vector<worker_pool_core*>& pools() const noexcept { return *pools_; }

private:
  std::unique_lock<std::mutex> lock_;
  const std::vector<lane*>* lanes_;
  const std::vector<limiter_core*>* limiters_;
  const std::vector<worker_pool_core*>* pools_;
};

}  // namespace bothworlds::detail
