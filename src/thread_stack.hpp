// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <vector>

#include <pthread.h>

namespace bothworlds::detail {

/// From now on the stack of the calling thread can be asked for. Debug mode only.
void show_stack_of_this_thread() noexcept;

/// An address within each instruction that the stack of `thread`, which must be alive, is at:
/// innermost first, calls but for the innermost. Empty where it does not answer within a second. It is asked by
/// a signal: a system call that is never restarted, such as poll(), ends early with EINTR. One
/// thread at a time may ask. Throws std::bad_alloc.
std::vector<void*> stack_of(pthread_t thread);

}  // namespace bothworlds::detail
