// SPDX-License-Identifier: BSL-1.0
#include "resources.hpp"

#include "per_process.hpp"

#include <new>

namespace bothworlds::detail {
namespace {

struct resource_list {
  std::mutex mutex;
  std::vector<lane*> lanes;              // mutex
  std::vector<limiter_core*> limiters;   // mutex
  std::vector<worker_pool_core*> pools;  // mutex
};

per_process<resource_list> all_resources;

template <class T>
void list(std::vector<T*> resource_list::* where, T& subject) noexcept {
  try {
    resource_list& all = all_resources.get();
    const std::lock_guard lock(all.mutex);
    (all.*where).push_back(&subject);
  } catch (const std::bad_alloc&) {
  }
}

template <class T>
void unlist(std::vector<T*> resource_list::* where, T& subject) noexcept {
  resource_list* const all = all_resources.find();
  if (!all) return;
  const std::lock_guard lock(all->mutex);
  std::erase(all->*where, &subject);
}

}  // namespace

void list_resource(lane& subject) noexcept { list(&resource_list::lanes, subject); }
void list_resource(limiter_core& subject) noexcept { list(&resource_list::limiters, subject); }
void list_resource(worker_pool_core& subject) noexcept { list(&resource_list::pools, subject); }
void unlist_resource(lane& subject) noexcept { unlist(&resource_list::lanes, subject); }
void unlist_resource(limiter_core& subject) noexcept { unlist(&resource_list::limiters, subject); }
void unlist_resource(worker_pool_core& subject) noexcept { unlist(&resource_list::pools, subject); }

listed_resources::listed_resources() {
  resource_list& all = all_resources.get();
  lock_ = std::unique_lock(all.mutex);
  lanes_ = &all.lanes;
  limiters_ = &all.limiters;
  pools_ = &all.pools;
}

}  // namespace bothworlds::detail
