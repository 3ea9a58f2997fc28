// SPDX-License-Identifier: BSL-1.0
#include "thread_cache.hpp"

#include "per_process.hpp"

namespace bothworlds::detail {
namespace {

worker_pool_options cache_options() {
  worker_pool_options options;
  options.soft_limit = options.hard_limit = std::numeric_limits<unsigned>::max();
  options.name = "bothworlds:lib";
  return options;
}

struct cache {
  // g++ 12 forgets to free the memory if this constructor throws and stands in the initializer of
  // the member.
  cache() : threads(new worker_pool_core(cache_options())) {}

  const ref_ptr<worker_pool_core> threads;
};

constinit per_process<cache> the_cache;

}  // namespace

worker_pool_core& thread_cache() { return *the_cache.get().threads; }

}  // namespace bothworlds::detail
