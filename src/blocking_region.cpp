// SPDX-License-Identifier: BSL-1.0
#include "thread_state.hpp"
#include "worker_pool_core.hpp"

#include <bothworlds/blocking_region.hpp>

#include <memory>
#include <new>

namespace bothworlds {

blocking_region::blocking_region(const char*) {
  static_assert(sizeof(detail::may_block_scope) <= sizeof scope_);
  detail::pool_worker* const worker = detail::this_thread_state().worker;
  new (scope_) detail::may_block_scope(nullptr);
  worker_ = worker;
  if (worker) worker->blocks();
}

blocking_region::~blocking_region() {
  if (worker_) static_cast<detail::pool_worker*>(worker_)->resumes();
  std::destroy_at(std::launder(reinterpret_cast<detail::may_block_scope*>(scope_)));
}

}  // namespace bothworlds
