// SPDX-License-Identifier: BSL-1.0
#include "thread_cache.hpp"

#include "thread_state.hpp"

#include <atomic>

namespace bothworlds::detail {
namespace {

worker_pool_options cache_options() {
  worker_pool_options options;
  options.soft_limit = options.hard_limit = std::numeric_limits<unsigned>::max();
  options.name = "bothworlds:lib";
  return options;
}

}  // namespace

worker_pool_core& thread_cache() {
  // Never destroyed: a thread of it may be at work while the process ends. A forked child makes its own, because
  // the threads of the parent's do not exist there.
  static std::atomic<worker_pool_core*> current{nullptr};
  worker_pool_core* known = current.load(std::memory_order_acquire);
  if (known && known->made_in_fork() == fork_generation()) return *known;
  ref_ptr<worker_pool_core> made(new worker_pool_core(cache_options()));
  if (!current.compare_exchange_strong(known, made.get(), std::memory_order_acq_rel)) return *known;
  return *made.detach();
}

}  // namespace bothworlds::detail
