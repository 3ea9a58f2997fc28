// SPDX-License-Identifier: BSL-1.0
//
// Memory for the states of crossings: freed blocks wait on the freeing thread for the next call of
// the same size, so that a warm call allocates nothing.
#pragma once

#include <bothworlds/config.hpp>

#include <cstddef>

namespace bothworlds::detail {

/// Any thread. Throws std::bad_alloc.
BOTHWORLDS_API void* recycle_allocate(std::size_t bytes);
/// Any thread, also another one than allocated. `bytes` as given to recycle_allocate.
BOTHWORLDS_API void recycle_deallocate(void* block, std::size_t bytes) noexcept;

}  // namespace bothworlds::detail
