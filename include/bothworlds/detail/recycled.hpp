// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <bothworlds/detail/recycling.hpp>

#include <cstddef>
#include <new>

namespace bothworlds::detail {

/// Base of what is made for a call and soon gone: its memory is recycled, unless it is aligned more
/// strictly than recycled memory is.
struct recycled {
  static void* operator new(std::size_t bytes) { return recycle_allocate(bytes); }
  static void operator delete(void* block, std::size_t bytes) { recycle_deallocate(block, bytes); }
  static void* operator new(std::size_t bytes, std::align_val_t alignment) {
    return ::operator new(bytes, alignment);
  }
  static void operator delete(void* block, std::size_t, std::align_val_t alignment) {
    ::operator delete(block, alignment);
  }
};

}  // namespace bothworlds::detail
