// SPDX-License-Identifier: BSL-1.0
#include <bothworlds/detail/recycling.hpp>

#include <array>
#include <cstdint>
#include <new>

namespace bothworlds::detail {
namespace {

#if defined(__SANITIZE_ADDRESS__)
#define BOTHWORLDS_RECYCLE 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BOTHWORLDS_RECYCLE 0
#endif
#endif
#ifndef BOTHWORLDS_RECYCLE
#define BOTHWORLDS_RECYCLE 1
#endif

// Under AddressSanitizer a recycled block would hide a use after free: there, every block goes back.
constexpr bool recycle = BOTHWORLDS_RECYCLE != 0;

constexpr std::size_t granule = 64;
constexpr std::size_t classes = 16;          // blocks of up to 1 KiB
constexpr std::uint32_t kept_per_class = 64;  // bounds what an idle thread holds on to: 544 KiB

struct free_block {
  free_block* next;
};

struct free_list {
  free_block* head = nullptr;
  std::uint32_t length = 0;
};

// Only its own thread touches it.
struct thread_cache {
  std::array<free_list, classes> lists;
  ~thread_cache();
};

// Tells a thread's late deallocations, after its cache is gone, to use the heap. Trivial, so it stays
// readable until the thread has ended.
thread_local bool cache_gone = false;
thread_local thread_cache cache;

thread_cache::~thread_cache() {
  cache_gone = true;
  for (auto& list : lists)
    while (free_block* block = list.head) {
      list.head = block->next;
      ::operator delete(block);
    }
}

constexpr std::size_t class_of(std::size_t bytes) { return (bytes + granule - 1) / granule; }

}  // namespace

BOTHWORLDS_NOINLINE void* recycle_allocate(std::size_t bytes) {
  const std::size_t size_class = class_of(bytes);
  if (!recycle || size_class == 0 || size_class > classes || cache_gone)
    return ::operator new(bytes);
  free_list& list = cache.lists[size_class - 1];
  if (free_block* block = list.head) {
    list.head = block->next;
    --list.length;
    return block;
  }
  return ::operator new(size_class * granule);
}

BOTHWORLDS_NOINLINE void recycle_deallocate(void* block, std::size_t bytes) noexcept {
  const std::size_t size_class = class_of(bytes);
  if (recycle && size_class != 0 && size_class <= classes && !cache_gone) {
    free_list& list = cache.lists[size_class - 1];
    if (list.length < kept_per_class) {
      list.head = new (block) free_block{list.head};
      ++list.length;
      return;
    }
  }
  ::operator delete(block);
}

}  // namespace bothworlds::detail
