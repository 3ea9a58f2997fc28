// SPDX-License-Identifier: BSL-1.0
#include "per_process.hpp"
#include "pool_executor.hpp"
#include "worker_pool_core.hpp"

#include <bothworlds/worker_pool.hpp>

namespace bothworlds {

worker_pool::worker_pool(worker_pool_options options)
    : core_(new detail::worker_pool_core(std::move(options))) {}

worker_pool::~worker_pool() { core_->shutdown(nullptr); }

asio::any_io_executor worker_pool::get_executor() { return detail::pool_executor(core_); }

worker_pool_stats worker_pool::stats() const { return core_->stats(); }

std::vector<leftover> worker_pool::shutdown(std::chrono::steady_clock::duration patience) {
  const auto now = std::chrono::steady_clock::now();
  if (patience >= std::chrono::steady_clock::time_point::max() - now)
    return core_->shutdown(nullptr);
  const auto deadline = now + patience;
  return core_->shutdown(&deadline);
}

worker_pool& default_worker_pool() {
  static constinit detail::per_process<worker_pool> pool;
  return pool.get();
}

const detail::ref_ptr<detail::worker_pool_core>& detail::core_of(const worker_pool& pool) noexcept {
  return pool.core_;
}

detail::worker_pool_core& detail::default_pool_core() { return *core_of(default_worker_pool()); }

}  // namespace bothworlds
