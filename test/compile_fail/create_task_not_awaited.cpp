// SPDX-License-Identifier: BSL-1.0
// case: a task, a group or a gather that is made and dropped draws a warning
// flavor: warning
// expect-regex: co_await it|\[-Wunused-result\]
#include <bothworlds/task_group.hpp>

boost::asio::awaitable<void> work();

void call() {
  bothworlds::create_task(work());
  bothworlds::gather(work(), work());
  bothworlds::with_task_group([](bothworlds::task_group&) { return work(); });
}
