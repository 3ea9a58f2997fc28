// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "worker_pool_core.hpp"

namespace bothworlds::detail {

/// The library's own threads: those that turn a loop while its thread is busy, and those of
/// dedicated lanes. Not a pool for callables: it has no limit that could make one of them wait for
/// another.
worker_pool_core& thread_cache();

}  // namespace bothworlds::detail
