// SPDX-License-Identifier: BSL-1.0
// case: gather, create_task and groups refuse a blocking callable, and say what to write
// expect: this callable is blocking: write sync_to_async(callable)
#include <bothworlds/task_group.hpp>

int block();

auto call() { return bothworlds::gather(block); }
