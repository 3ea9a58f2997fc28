// SPDX-License-Identifier: BSL-1.0
//
// malloc itself is replaced, not operator new: Asio allocates the frames of coroutines with
// aligned_alloc, which a replaced operator new never sees.
#include "counting_heap.hpp"

#include <atomic>
#include <cerrno>
#include <cstddef>

#include <malloc.h>

// What glibc's own malloc family calls; there for programs that replace it.
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void __libc_free(void*);
}

namespace {

std::atomic<std::uint64_t> allocations{0};
std::atomic<std::int64_t> bytes{0};

// glibc keeps the size of a block in a word before it.
std::int64_t size_of(void* block) noexcept {
  return static_cast<std::int64_t>(::malloc_usable_size(block) + sizeof(std::size_t));
}

void* count(void* block) noexcept {
  if (block) {
    allocations.fetch_add(1, std::memory_order_relaxed);
    bytes.fetch_add(size_of(block), std::memory_order_relaxed);
  }
  return block;
}

void forget(void* block) noexcept {
  if (block) bytes.fetch_sub(size_of(block), std::memory_order_relaxed);
}

}  // namespace

namespace bench {

std::uint64_t heap_allocations() noexcept { return allocations.load(std::memory_order_relaxed); }
std::int64_t heap_bytes() noexcept { return bytes.load(std::memory_order_relaxed); }

}  // namespace bench

extern "C" {

void* malloc(std::size_t size) noexcept { return count(__libc_malloc(size)); }
void* calloc(std::size_t items, std::size_t size) noexcept {
  return count(__libc_calloc(items, size));
}
void* realloc(void* block, std::size_t size) noexcept {
  forget(block);
  void* const moved = __libc_realloc(block, size);
  if (!moved && size != 0 && block) bytes.fetch_add(size_of(block), std::memory_order_relaxed);
  return count(moved);
}
void* memalign(std::size_t boundary, std::size_t size) noexcept {
  return count(__libc_memalign(boundary, size));
}
void* aligned_alloc(std::size_t boundary, std::size_t size) noexcept {
  return memalign(boundary, size);
}
int posix_memalign(void** block, std::size_t boundary, std::size_t size) noexcept {
  *block = memalign(boundary, size);
  return *block ? 0 : ENOMEM;
}
void free(void* block) noexcept {
  forget(block);
  __libc_free(block);
}

}  // extern "C"
