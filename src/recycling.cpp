// SPDX-License-Identifier: BSL-1.0
//
// Two floors. Each thread keeps lists of free blocks that nobody else touches. Blocks often go one
// way, from the thread that makes calls to the thread that ends them: a thread whose list is full
// hands half of it, a batch, to the exchange, and a thread whose list is empty takes a batch from
// there. So a warm flow costs one lock for each batch, and no allocation in either direction. Both
// floors are bounded; what does not fit goes back to the heap.
#include <bothworlds/detail/recycling.hpp>
#include <bothworlds/detail/spin_mutex.hpp>

#include <array>
#include <cstdint>
#include <mutex>
#include <new>
#include <utility>

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

// Under AddressSanitizer a recycled block would hide a use after free: there, every block goes
// back.
constexpr bool recycle = BOTHWORLDS_RECYCLE != 0;

// Blocks of up to 1,016 bytes, in steps of 16. That of class n has 16 n + 8: glibc puts a word before it,
// and takes multiples of 16 in all.
constexpr std::size_t granule = 16;
constexpr std::size_t classes = 63;
constexpr std::size_t size_of(std::size_t size_class) { return size_class * granule + 8; }
constexpr std::uint32_t kept_per_class = 64;  // bounds what an idle thread holds on to: 2 MiB
constexpr std::uint32_t batch_size = kept_per_class / 2;
// Bounds what the exchange holds on to: 63 MiB, if the program has objects of all sizes.
constexpr std::size_t bytes_per_class = std::size_t{1} << 20;

struct free_block {
  free_block* next;
  free_block* next_batch;  // of the first block of a batch in the exchange
};
static_assert(sizeof(free_block) <= size_of(1));

struct free_list {
  free_block* head = nullptr;
  std::uint32_t length = 0;
};

/// Batches of one size class, for any thread. Never destroyed: late threads may still come here.
class exchange {
public:
  /// False: it holds as many as it may.
  bool put(free_block* batch, std::uint32_t most) noexcept {
    const std::lock_guard lock(mutex_);
    if (batches_ == most) return false;
    batch->next_batch = std::exchange(first_, batch);
    ++batches_;
    return true;
  }
  /// Null: it is empty.
  free_block* take() noexcept {
    const std::lock_guard lock(mutex_);
    if (!first_) return nullptr;
    --batches_;
    return std::exchange(first_, first_->next_batch);
  }

private:
  spin_mutex mutex_;
  std::uint32_t batches_ = 0;    // mutex_
  free_block* first_ = nullptr;  // mutex_
};

constinit std::array<exchange, classes> exchanges;

// Only its own thread touches it.
struct thread_cache {
  std::array<free_list, classes> lists;
};

void free_all(free_block* first) noexcept {
  while (first) ::operator delete(std::exchange(first, first->next));
}

// Constant initialised and trivially destroyed, so that a look at it is a plain load at any time of
// a thread's life.
constinit thread_local thread_cache* cache = nullptr;  // null: none made yet, or gone for good
constinit thread_local bool cache_gone = false;

/// Owns the cache for the life of the thread. Only make_cache() names it: an object with a
/// destructor is looked up the slow way.
struct cache_owner {
  thread_cache owned;
  cache_owner() noexcept { cache = &owned; }
  ~cache_owner() {
    cache = nullptr;
    cache_gone = true;
    for (const free_list& list : owned.lists) free_all(list.head);
  }
};

BOTHWORLDS_NOINLINE thread_cache* make_cache() noexcept {
  if (cache_gone) return nullptr;
  thread_local cache_owner owner;
  return &owner.owned;
}

/// The first `batch_size` blocks of a list that has more.
free_block* detach_batch(free_list& list) noexcept {
  free_block* const first = list.head;
  free_block* last = first;
  for (std::uint32_t count = 1; count < batch_size; ++count) last = last->next;
  list.head = std::exchange(last->next, nullptr);
  list.length -= batch_size;
  return first;
}

// 0: too small to be worth it.
constexpr std::size_t class_of(std::size_t bytes) { return (bytes + granule - 9) / granule; }

BOTHWORLDS_NOINLINE void* refill(free_list* list, std::size_t size_class) {
  if (list) {
    if (free_block* const first = exchanges[size_class - 1].take()) {
      list->head = first->next;
      list->length = batch_size - 1;
      return first;
    }
  }
  return ::operator new(size_of(size_class));
}

/// The list has more than it may keep.
BOTHWORLDS_NOINLINE void spill(free_list& list, std::size_t size_class) noexcept {
  const auto most =
      static_cast<std::uint32_t>(bytes_per_class / (batch_size * size_of(size_class)));
  if (free_block* const batch = detach_batch(list); !exchanges[size_class - 1].put(batch, most))
    free_all(batch);
}

BOTHWORLDS_NOINLINE void deallocate_without_cache(void* block, std::size_t bytes) noexcept {
  if (make_cache()) return recycle_deallocate(block, bytes);
  ::operator delete(block);
}

}  // namespace

BOTHWORLDS_NOINLINE void* recycle_allocate(std::size_t bytes) {
  const std::size_t size_class = class_of(bytes);
  if (!recycle || size_class == 0 || size_class > classes) return ::operator new(bytes);
  if (!cache) [[unlikely]]
    return refill(nullptr, size_class);
  free_list& list = cache->lists[size_class - 1];
  free_block* const block = list.head;
  if (!block) [[unlikely]]
    return refill(&list, size_class);
  list.head = block->next;
  --list.length;
  return block;
}

BOTHWORLDS_NOINLINE void recycle_deallocate(void* block, std::size_t bytes) noexcept {
  const std::size_t size_class = class_of(bytes);
  if (!recycle || size_class == 0 || size_class > classes) return ::operator delete(block);
  if (!cache) [[unlikely]]
    return deallocate_without_cache(block, bytes);
  free_list& list = cache->lists[size_class - 1];
  list.head = new (block) free_block{list.head, nullptr};
  if (++list.length > kept_per_class) [[unlikely]]
    spill(list, size_class);
}

}  // namespace bothworlds::detail
