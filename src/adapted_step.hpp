// SPDX-License-Identifier: BSL-1.0
//
// What the adapters of thread_locals do around a step of a call. Without adapters: one load of an
// atomic.
#pragma once

#include <bothworlds/detail/value_cell.hpp>

#include <atomic>
#include <vector>

namespace bothworlds::detail {

class adapted_thread_local;
using adapter_list = std::vector<ref_ptr<adapted_thread_local>>;

/// What adapters() reads: it is asked at every step.
[[gnu::visibility("hidden")]] extern constinit std::atomic<const adapter_list*> current_adapters;

/// Those there are now; null: none. A list is never changed, and never freed: there are few, and
/// steps may still use it.
inline const adapter_list* adapters() noexcept {
  return current_adapters.load(std::memory_order_acquire);
}

/// Takes over what the running step has changed of the thread's values; then the cell's snapshot
/// can be handed on.
void capture_thread_locals(value_cell& running) noexcept;
/// Sets them anew, where the running step's cell has taken in changes of a call.
void install_thread_locals(const value_cell& running) noexcept;

/// One step of the call whose values are in `cell`.
class adapted_step {
public:
  adapted_step(const adapter_list& all, value_cell& cell);
  ~adapted_step();
  adapted_step(const adapted_step&) = delete;
  adapted_step& operator=(const adapted_step&) = delete;

private:
  const adapter_list& all_;
  value_cell& cell_;
  std::vector<ref_ptr<const context_value>> outer_;  // the thread's own
};

}  // namespace bothworlds::detail
