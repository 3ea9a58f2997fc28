// SPDX-License-Identifier: BSL-1.0
#include "describe.hpp"
#include "pool_executor.hpp"
#include "thread_cache.hpp"
#include "unhandled.hpp"

#include <bothworlds/detail/stream_walk.hpp>
#include <bothworlds/detail/sync_range.hpp>

#include <new>

namespace bothworlds::detail {

void run_off_loop(continuation last) noexcept {
  ref_ptr<posted_function> item;
  try {
    item = new posted_function(std::move(last));
    thread_cache().submit(*item, false);
  } catch (...) {
    // No memory, then `last` is still here; or no thread.
    if (!item)
      last();
    else if (item->try_claim())
      item.detach()->run();
  }
}

void report_failed_close(std::source_location where) noexcept {
  try {
    report_unhandled(
        ("the close() of the stream of the to_sync_range at " + describe(where)).c_str());
  } catch (const std::bad_alloc&) {
    report_unhandled("the close() of a stream walked by to_sync_range");
  }
}

}  // namespace bothworlds::detail
