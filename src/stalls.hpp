// SPDX-License-Identifier: BSL-1.0
//
// Calls that do not get on, for reasons that the library cannot see: user code that does not
// return, a mutex of the user's, a loop that nobody runs.
#pragma once

#include "wait_report.hpp"

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace bothworlds::detail {

/// One thread uses it.
class stall_list {
public:
  /// Reports of the stalls that are new, and of those that are over, since the last look. A stall
  /// is a call that has stood at the head of a queue, or has waited for its loop to begin it, for
  /// `limit` of looks. Throws std::bad_alloc.
  std::vector<wait_report_data> look(std::chrono::milliseconds limit);
  /// At the last look something waited that is a stall or could become one.
  bool any_waiting() const noexcept { return !waiting_.empty(); }

private:
  struct wait {
    const void* identity = nullptr;  // with queued_at: the same wait as at the last look
    std::int64_t queued_at = 0;
    std::int64_t first_seen = 0;
    unsigned number = 0;               // of the report; 0: none
    std::vector<reported_node> nodes;  // the call, what it waits for, who holds that
  };
  friend class stall_finder;

  std::vector<wait> waiting_;
  unsigned last_number_ = 0;
};

}  // namespace bothworlds::detail
