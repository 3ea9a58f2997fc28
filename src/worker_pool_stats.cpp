// SPDX-License-Identifier: BSL-1.0
//
// What can be asked of a worker pool, and the clock of its answers.
#include "describe.hpp"
#include "worker_pool_core.hpp"

#include <algorithm>
#include <ctime>
#include <utility>

namespace bothworlds::detail {

std::int64_t coarse_now() noexcept {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return now.tv_sec * std::int64_t{1'000'000'000} + now.tv_nsec;
}

std::chrono::milliseconds age(std::int64_t since, std::int64_t now) noexcept {
  return std::chrono::milliseconds((now - since) / 1'000'000);
}

worker_pool_stats worker_pool_core::stats() const {
  const std::lock_guard lock(mutex_);
  worker_pool_stats stats;
  stats.threads = threads_;
  for (const pool_worker& worker : all_) stats.busy += worker.running_ != nullptr;
  stats.blocked_in_bridge = blocked_;
  stats.queued = queue_.size() + (slot_.is_filled() ? 1 : 0);
  if (!queue_.empty()) stats.oldest_queued = age(queue_.front().queued_at_, coarse_now());
  stats.completed = completed_;
  stats.abandoned = abandoned_.load(std::memory_order_relaxed);
  stats.compensations = compensations_;
  return stats;
}

namespace {

leftover make_leftover(const char* name, std::source_location where) {
  leftover entry;
  entry.name = name ? name : describe(where);
  entry.where = where;
  return entry;
}

}  // namespace

std::vector<leftover> worker_pool_core::list_running() const {
  std::vector<leftover> running;
  const std::int64_t now = coarse_now();
  for (const pool_worker& worker : all_)
    for (const running_call* call = worker.running_; call; call = call->below) {
      leftover entry = make_leftover(call->name, call->where);
      entry.running_for = age(call->since, now);
      entry.kernel_thread_id = worker.kernel_id_;
      running.push_back(std::move(entry));
    }
  std::sort(running.begin(), running.end(),
            [](const leftover& a, const leftover& b) { return a.running_for > b.running_for; });
  return running;
}

std::vector<leftover> worker_pool_core::list_unfinished() const {
  std::vector<leftover> unfinished = list_running();
  for (const work& item : queue_) unfinished.push_back(make_leftover(item.name(), item.where()));
  return unfinished;
}

std::vector<leftover> worker_pool_core::running() const {
  const std::lock_guard lock(mutex_);
  return list_running();
}

}  // namespace bothworlds::detail
