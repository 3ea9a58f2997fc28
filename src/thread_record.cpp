// SPDX-License-Identifier: BSL-1.0
#include "thread_record.hpp"

#include "per_process.hpp"
#include "thread_state.hpp"

#include <algorithm>
#include <atomic>

#include <sys/syscall.h>
#include <unistd.h>

namespace bothworlds::detail {
namespace {

struct record_list {
  std::mutex mutex;
  std::vector<thread_record*> records;  // mutex; each is unlisted before its thread ends
};

per_process<record_list> all_records;
constinit std::atomic<bool> tracking{true};

}  // namespace

thread_record::thread_record(const thread_state& state) noexcept
    : state_(&state),
      handle_(::pthread_self()),
      kernel_id_(static_cast<int>(::syscall(SYS_gettid))) {}

thread_record::~thread_record() = default;

thread_record* thread_record::of_this_thread() noexcept {
  thread_state& state = this_thread_state();
  if (state.record) [[likely]]
    return state.record.get();
  try {
    record_list& all = all_records.get();
    const ref_ptr<thread_record> fresh(new thread_record(state));
    const std::lock_guard lock(all.mutex);
    all.records.push_back(fresh.get());
    state.record = fresh;
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
  return state.record.get();
}

void thread_record::unlist() noexcept {
  record_list* const all = all_records.find();
  if (!all) return;
  const std::lock_guard lock(all->mutex);
  std::erase(all->records, this);
}

void thread_record::track(bool wanted) noexcept {
  tracking.store(wanted, std::memory_order_relaxed);
}

void thread_record::falls_asleep(const async_call* call, const loop* in) noexcept {
  if (!tracking.load(std::memory_order_relaxed)) return;
  thread_record* const self = of_this_thread();
  if (!self) return;
  const std::lock_guard lock(self->mutex_);
  self->asleep_ = true;
  self->call_ = call;
  self->in_ = in;
}

void thread_record::wakes_up() noexcept {
  thread_record* const self = this_thread_state().record.get();
  if (!self) return;
  const std::lock_guard lock(self->mutex_);
  self->asleep_ = false;
}

void thread_record::stirs() noexcept {
  const thread_record* const self = this_thread_state().record.get();
  if (self && self->asleep_) wakes_up();
}

std::string thread_record::name() const {
  char name[16] = "";
  ::pthread_getname_np(handle_, name, sizeof name);
  return name;
}

frozen_threads::frozen_threads() {
  record_list& all = all_records.get();
  list_ = std::unique_lock(all.mutex);
  asleep_.reserve(all.records.size());
  for (thread_record* record : all.records) {
    record->mutex_.lock();
    if (record->asleep_)
      asleep_.push_back(record);
    else
      record->mutex_.unlock();
  }
  std::sort(asleep_.begin(), asleep_.end(),
            [](const thread_record* a, const thread_record* b) { return a->state_ < b->state_; });
}

frozen_threads::~frozen_threads() {
  for (thread_record* record : asleep_) record->mutex_.unlock();
}

thread_record* frozen_threads::find(const thread_state* state) const noexcept {
  const auto found = std::lower_bound(asleep_.begin(), asleep_.end(), state,
                                      [](const thread_record* record, const thread_state* wanted) {
                                        return record->state() < wanted;
                                      });
  return found != asleep_.end() && (*found)->state() == state ? *found : nullptr;
}

}  // namespace bothworlds::detail
