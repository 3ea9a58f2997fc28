// SPDX-License-Identifier: BSL-1.0
//
// All of bothworlds. Code that uses one bridge compiles faster with that bridge's own header.
#pragma once

#include <bothworlds/async_options.hpp>
#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/blocking_options.hpp>
#include <bothworlds/blocking_portal.hpp>
#include <bothworlds/blocking_region.hpp>
#include <bothworlds/byte_stream.hpp>
#include <bothworlds/capacity_limiter.hpp>
#include <bothworlds/channel.hpp>
#include <bothworlds/context.hpp>
#include <bothworlds/deadlock.hpp>
#include <bothworlds/ensure.hpp>
#include <bothworlds/error.hpp>
#include <bothworlds/errors_of.hpp>
#include <bothworlds/gather.hpp>
#include <bothworlds/run.hpp>
#include <bothworlds/spawn.hpp>
#include <bothworlds/stream.hpp>
#include <bothworlds/sync_options.hpp>
#include <bothworlds/sync_to_async.hpp>
#include <bothworlds/task.hpp>
#include <bothworlds/task_group.hpp>
#include <bothworlds/thread_bound.hpp>
#include <bothworlds/thread_local_adapter.hpp>
#include <bothworlds/thread_sensitive.hpp>
#include <bothworlds/timeout.hpp>
#include <bothworlds/traits.hpp>
#include <bothworlds/worker_pool.hpp>
