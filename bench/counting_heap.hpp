// SPDX-License-Identifier: BSL-1.0
//
// A heap that counts. Linked into a program of its own, because counting would disturb the timings.
#pragma once

#include <cstdint>

namespace bench {

/// How many blocks were allocated since the process began, by any thread.
std::uint64_t heap_allocations() noexcept;
/// Bytes that are allocated now, with what the heap adds to each block.
std::int64_t heap_bytes() noexcept;

}  // namespace bench
