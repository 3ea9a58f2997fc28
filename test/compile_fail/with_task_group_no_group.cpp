// SPDX-License-Identifier: BSL-1.0
// case: with_task_group's body takes the group
// expect: with_task_group: give it a function that takes a task_group&
#include <bothworlds/task_group.hpp>

boost::asio::awaitable<void> body() { co_return; }

int main() { auto waiting = bothworlds::with_task_group(body); }
