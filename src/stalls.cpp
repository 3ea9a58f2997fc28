// SPDX-License-Identifier: BSL-1.0
#include "stalls.hpp"

#include "describe.hpp"
#include "lane.hpp"
#include "limiter_core.hpp"
#include "resources.hpp"
#include "thread_record.hpp"
#include "worker_pool_core.hpp"

#include <bothworlds/detail/async_call.hpp>

#include <algorithm>
#include <utility>

namespace bothworlds::detail {

/// Collects the heads of all queues.
class stall_finder {
public:
  using wait = stall_list::wait;
  using kind = reported_node::kind;

  std::vector<wait> find() {
    look_at_queues();
    look_at_threads();
    return std::move(found_);
  }

private:
  void look_at_queues() {
    const listed_resources all;
    for (lane* subject : all.lanes()) {
      const std::lock_guard lock(subject->mutex_);
      const char* const title = subject->title();
      for (const auto* queue : {&subject->nested_, &subject->main_})
        if (!queue->empty()) {
          wait& head = add_head(queue->front(), queue->front().queued_at_, kind::lane, title);
          if (subject->running_since_ != 0)
            add_holder(head, subject->running_name_, subject->running_where_,
                       subject->running_since_, 0);
        }
    }
    for (limiter_core* subject : all.limiters()) {
      const std::lock_guard lock(subject->mutex_);
      if (subject->queue_.empty()) continue;
      const limiter_token& first = subject->queue_.front();
      wait& head = add_head(*first.waiting_, first.since_, kind::limiter, "a capacity limiter");
      for (const limiter_token& token : subject->borrowed_)
        add_holder(head, token.name_, token.where_, token.since_, 0);
    }
    for (worker_pool_core* subject : all.pools()) {
      const std::lock_guard lock(subject->mutex_);
      if (subject->queue_.empty()) continue;
      const work& first = subject->queue_.front();
      wait& head = add_head(first, first.queued_at_, kind::pool,
                            "worker pool \"" + subject->options_.name + "\"");
      for (const pool_worker& worker : subject->all_)
        for (const running_call* call = worker.running_; call; call = call->below)
          add_holder(head, call->name, call->where, call->since, worker.kernel_id_);
    }
  }

  // Blocked calls that nobody has begun: their loop runs nothing.
  void look_at_threads() {
    const frozen_threads frozen;
    for (const thread_record* thread : frozen.asleep()) {
      const async_call* const call = thread->waits_for();
      if (!call || call->start_.load(std::memory_order_acquire) != async_call::start::open)
        continue;
      wait unbegun;
      unbegun.identity = call;
      unbegun.queued_at = call->asleep_since_;
      unbegun.nodes.push_back(node(kind::blocked_call, "async_to_sync", call->name(), call->where(),
                                   call->asleep_since_));
      unbegun.nodes.push_back({kind::loop,
                               "the loop it is to run on, which has not run it yet",
                               {},
                               0,
                               false,
                               false,
                               {}});
      unbegun.nodes[0].waits_for = {1};
      found_.push_back(std::move(unbegun));
    }
  }

  reported_node node(kind what, const char* bridge, const char* name, std::source_location where,
                     std::int64_t since) const {
    reported_node made{};
    made.what = what;
    made.title = describe_call(bridge, name, where);
    made.age = age(since, now_);
    return made;
  }

  wait& add_head(const work& item, std::int64_t since, kind of, std::string title) {
    wait head;
    head.identity = &item;
    head.queued_at = since;
    head.nodes.push_back(node(kind::crossing, "sync_to_async", item.name(), item.where(), since));
    head.nodes.push_back({of, std::move(title), {}, 0, false, false, {}});
    head.nodes[0].waits_for = {1};
    found_.push_back(std::move(head));
    return found_.back();
  }

  void add_holder(wait& head, const char* name, std::source_location where, std::int64_t since,
                  int kernel_id) const {
    head.nodes[1].waits_for.push_back(head.nodes.size());
    head.nodes.push_back(node(kind::crossing, "sync_to_async", name, where, since));
    head.nodes.back().kernel_id = kernel_id;
    if (kernel_id != 0) head.nodes.back().title += ", on thread " + std::to_string(kernel_id);
  }

  const std::int64_t now_ = coarse_now();
  std::vector<wait> found_;
};

std::vector<wait_report_data> stall_list::look(std::chrono::milliseconds limit) {
  const std::int64_t now = coarse_now();
  std::vector<wait> current = stall_finder().find();
  std::vector<wait_report_data> reports;
  for (wait& one : current) {
    const auto before = std::find_if(waiting_.begin(), waiting_.end(), [&](const wait& other) {
      return other.identity == one.identity && other.queued_at == one.queued_at;
    });
    one.first_seen = before == waiting_.end() ? now : before->first_seen;
    if (before != waiting_.end()) one.number = std::exchange(before->number, 0);
    if (one.number != 0 || now - one.first_seen < limit.count() * 1'000'000) continue;
    one.number = ++last_number_;
    wait_report_data report;
    report.what = wait_report::kind::stall;
    report.number = one.number;
    report.summary = "stall " + std::to_string(one.number) + ": " + one.nodes[0].title +
                     " has waited for " + in_seconds(std::chrono::nanoseconds(now - one.queued_at));
    report.nodes = one.nodes;
    report.fix =
        "look at what holds it: it does not return, or waits for something that needs this call";
    reports.push_back(std::move(report));
  }
  for (const wait& gone : waiting_) {
    if (gone.number == 0) continue;
    wait_report_data report;
    report.what = wait_report::kind::stall_over;
    report.number = gone.number;
    report.summary = "stall " + std::to_string(gone.number) + " is over: " + gone.nodes[0].title +
                     " got on after " + in_seconds(std::chrono::nanoseconds(now - gone.queued_at));
    reports.push_back(std::move(report));
  }
  waiting_ = std::move(current);
  return reports;
}

}  // namespace bothworlds::detail
