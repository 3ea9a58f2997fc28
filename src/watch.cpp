// SPDX-License-Identifier: BSL-1.0
#include "watch.hpp"

#include "per_process.hpp"
#include "stalls.hpp"
#include "thread_cache.hpp"
#include "thread_record.hpp"
#include "unhandled.hpp"
#include "wait_graph.hpp"

#include <bothworlds/deadlock.hpp>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <unordered_map>

namespace bothworlds {
namespace detail {
namespace {

constexpr std::chrono::milliseconds interval{200};
constexpr unsigned quiet_looks = 10;  // two seconds

class waits_watch {
public:
  /// Whether there is nothing for arm() to do.
  bool is_armed() const noexcept {
    return off_.load(std::memory_order_relaxed) ||
           (again_.load(std::memory_order_seq_cst) && on_.load(std::memory_order_seq_cst));
  }
  void arm() noexcept;
  void configure(deadlock_options options);

private:
  void look_until_quiet() noexcept;
  bool look();
  void handle(const wait_graph& graph, const std::vector<wait_graph::cycle>& cycles);
  void handle_stalls();
  void publish(const wait_report& report);

  std::atomic<bool> off_{false};    // by policy: configure() writes
  std::atomic<bool> on_{false};     // a thread looks
  std::atomic<bool> again_{false};  // since it last began to look, there was a new wait
  std::mutex mutex_;
  deadlock_options options_;  // mutex_

  // The thread that looks.
  std::vector<std::uint64_t> seen_;  // deadlocks, the last time
  std::unordered_map<std::uint64_t, unsigned>
      numbers_;  // of the deadlocks that were reported and are still there
  unsigned deadlocks_ = 0;
  stall_list stalls_;
};

per_process<waits_watch> the_watch;

void waits_watch::arm() noexcept {
  if (is_armed()) return;
  again_.store(true, std::memory_order_seq_cst);
  if (on_.load(std::memory_order_seq_cst) || on_.exchange(true, std::memory_order_seq_cst)) return;
  try {
    run_on_library_thread([this] { look_until_quiet(); });
  } catch (...) {
    on_.store(false, std::memory_order_seq_cst);  // no thread, no memory: the next wait tries again
  }
}

void waits_watch::configure(deadlock_options options) {
  {
    const std::lock_guard lock(mutex_);
    off_.store(options.policy == on_deadlock::off, std::memory_order_relaxed);
    thread_record::track(options.policy != on_deadlock::off);
    options_ = std::move(options);
  }
  arm();
}

void waits_watch::look_until_quiet() noexcept {
  parker pause;
  for (;;) {
    for (unsigned quiet = 0; quiet < quiet_looks; ++quiet) {
      pause.park_until(parker::clock::now() + interval);
      if (again_.exchange(false, std::memory_order_seq_cst)) quiet = 0;
      try {
        if (look()) quiet = 0;
      } catch (...) {
        report_unhandled("the look for deadlocks");
      }
    }
    on_.store(false, std::memory_order_seq_cst);
    // A wait that came in between has seen the watch on, and relies on it.
    if (!again_.load(std::memory_order_seq_cst) || on_.exchange(true, std::memory_order_seq_cst))
      return;
  }
}

// True: there is reason to look again.
bool waits_watch::look() {
  if (off_.load(std::memory_order_relaxed)) return false;
  const wait_graph graph;
  const std::vector<wait_graph::cycle> cycles = graph.cycles();
  handle(graph, cycles);
  handle_stalls();
  return !cycles.empty() || stalls_.any_waiting();
}

void waits_watch::handle(const wait_graph& graph, const std::vector<wait_graph::cycle>& cycles) {
  on_deadlock policy;
  {
    const std::lock_guard lock(mutex_);
    policy = options_.policy;
  }
  if (policy == on_deadlock::off) return;
  std::vector<std::uint64_t> seen;
  for (const wait_graph::cycle& found : cycles) seen.push_back(found.identity);
  std::erase_if(numbers_, [&](const auto& one) {
    return std::find(seen.begin(), seen.end(), one.first) == seen.end();
  });
  for (const wait_graph::cycle& found : cycles) {
    if (std::find(seen_.begin(), seen_.end(), found.identity) == seen_.end()) continue;
    const auto [at, fresh] = numbers_.try_emplace(found.identity, deadlocks_ + 1);
    if (fresh) ++deadlocks_;
    if (!fresh && policy == on_deadlock::report_only) continue;
    wait_report_data data = graph.report(&found);
    data.what = wait_report::kind::deadlock;
    data.number = at->second;
    const auto threads = std::count_if(
        found.members.begin(), found.members.end(),
        [&](std::size_t member) { return data.nodes[member].what == reported_node::kind::thread; });
    data.summary = "deadlock " + std::to_string(data.number) + ": " + std::to_string(threads) +
                   (threads == 1 ? " thread waits for itself" : " threads wait for each other");
    data.fix =
        "take what they need in the same order everywhere, or let go of one before asking for the "
        "next; a\n"
        "              timeout (async_options::timeout) ends such a wait as well";
    if (policy == on_deadlock::throw_error) data.refused = found.youngest;
    const wait_report report(std::make_shared<const wait_report_data>(std::move(data)));
    // First, so that whoever gets the error finds that it was reported.
    if (fresh) publish(report);
    if (policy == on_deadlock::abort) std::abort();
    // It may have moved after all, where a cancellation came.
    if (policy == on_deadlock::throw_error)
      graph.refuse(found.youngest,
                   std::make_exception_ptr(deadlock_error(graph.where(found.youngest), report)));
  }
  seen_ = std::move(seen);
}

void waits_watch::handle_stalls() {
  std::chrono::milliseconds limit;
  {
    const std::lock_guard lock(mutex_);
    limit = options_.stall_after;
  }
  for (wait_report_data& stall : stalls_.look(limit))
    publish(wait_report(std::make_shared<const wait_report_data>(std::move(stall))));
}

void waits_watch::publish(const wait_report& report) {
  std::function<void(const wait_report&)> sink;
  {
    const std::lock_guard lock(mutex_);
    sink = options_.sink;
  }
  if (!sink) {
    std::fputs(report.to_string().c_str(), stderr);
    return;
  }
  try {
    sink(report);
  } catch (...) {
    report_unhandled("deadlock_options::sink");
  }
}

}  // namespace

void watch_waits() noexcept {
  if (const waits_watch* const known = the_watch.find(); known && known->is_armed()) return;
  try {
    the_watch.get().arm();
  } catch (...) {
    // No memory for the watch itself: the next wait tries again.
  }
}

}  // namespace detail

void set_deadlock_options(deadlock_options options) {
  detail::the_watch.get().configure(std::move(options));
}

wait_report current_waits() {
  const detail::wait_graph graph;
  detail::wait_report_data data = graph.report(nullptr);
  data.summary = "who waits now";
  return wait_report(std::make_shared<const detail::wait_report_data>(std::move(data)));
}

}  // namespace bothworlds
