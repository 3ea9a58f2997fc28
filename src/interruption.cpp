// SPDX-License-Identifier: BSL-1.0
#include "interruption.hpp"

#include "thread_state.hpp"
#include "unhandled.hpp"
#include "worker_pool_core.hpp"

#include <boost/thread/thread.hpp>

namespace bothworlds::detail {

void interruption::begin() noexcept {
  const std::lock_guard lock(mutex_);
  running_ = true;
  worker_ = this_thread_state().worker;
}

void interruption::end() noexcept {
  std::unique_lock lock(mutex_);
  running_ = false;
  called_.wait(lock, [this] { return !calling_; });
  if (!fired_ || !worker_) return;
  worker_ = nullptr;
  // The interruption may still be pending on this thread: take it here, where it harms nobody.
  try {
    boost::this_thread::interruption_point();
  } catch (const boost::thread_interrupted&) {
    // That was it.
  }
}

void interruption::fire(const std::function<void()>& interruptor) noexcept {
  std::unique_lock lock(mutex_);
  if (!running_ || fired_) return;
  fired_ = true;
  if (worker_) worker_->interrupt();
  if (!interruptor) return;
  calling_ = true;
  lock.unlock();
  try {
    interruptor();
  } catch (...) {
    report_unhandled("sync_options::interruptor");
  }
  lock.lock();
  calling_ = false;
  called_.notify_all();
}

}  // namespace bothworlds::detail
