// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <bothworlds/deadlock.hpp>

#include <algorithm>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

namespace bothworlds::testing {

/// Catches the reports of deadlocks and stalls while it lives, and sets how they are dealt with.
class wait_reports {
public:
  explicit wait_reports(on_deadlock policy = on_deadlock::throw_error,
                        std::chrono::milliseconds stall_after = std::chrono::hours(1)) {
    configure(policy, stall_after);
  }
  ~wait_reports() { set_deadlock_options({}); }
  wait_reports(const wait_reports&) = delete;
  wait_reports& operator=(const wait_reports&) = delete;

  void configure(on_deadlock policy,
                 std::chrono::milliseconds stall_after = std::chrono::hours(1)) {
    set_deadlock_options({.policy = policy,
                          .stall_after = stall_after,
                          .sink = [to = caught_](const wait_report& report) {
                            const std::lock_guard lock(to->mutex);
                            to->all.push_back(report);
                            to->changed.notify_all();
                          }});
  }

  /// The first report of this kind. Blocks until it comes.
  wait_report first(wait_report::kind what) {
    std::unique_lock lock(caught_->mutex);
    std::optional<wait_report> found;
    caught_->changed.wait(lock, [&] {
      const auto at = std::find_if(caught_->all.begin(), caught_->all.end(),
                                   [&](const wait_report& one) { return one.what() == what; });
      if (at != caught_->all.end()) found = *at;
      return found.has_value();
    });
    return *found;
  }

  std::size_t count(wait_report::kind what) {
    const std::lock_guard lock(caught_->mutex);
    return static_cast<std::size_t>(
        std::count_if(caught_->all.begin(), caught_->all.end(),
                      [&](const wait_report& one) { return one.what() == what; }));
  }

private:
  // The sink's, too: a report may be on its way when this goes.
  struct caught {
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<wait_report> all;
  };
  const std::shared_ptr<caught> caught_ = std::make_shared<caught>();
};

}  // namespace bothworlds::testing
