// SPDX-License-Identifier: BSL-1.0
#include "adapted_step.hpp"

#include <bothworlds/thread_local_adapter.hpp>

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace bothworlds::detail {

constinit std::atomic<const adapter_list*> current_adapters{nullptr};

namespace {

std::mutex changing;

/// With `changing` locked. Lists that were replaced are kept for ever, because somebody may be in
/// the middle of a step with one: adapters come and go a few times in the life of a process.
void publish(std::unique_ptr<const adapter_list> list) {
  static auto* const kept = new std::vector<std::unique_ptr<const adapter_list>>;
  kept->push_back(std::move(list));
  current_adapters.store(kept->back()->empty() ? nullptr : kept->back().get(),
                         std::memory_order_release);
}

const context_value* value_in(const value_cell& cell,
                              const adapted_thread_local& adapter) noexcept {
  return context_snapshot::find(cell.current(), adapter.variable()->id());
}

}  // namespace

adapted_thread_local::~adapted_thread_local() = default;

void add_adapter(ref_ptr<adapted_thread_local> adapter) {
  const std::lock_guard lock(changing);
  auto longer =
      adapters() ? std::make_unique<adapter_list>(*adapters()) : std::make_unique<adapter_list>();
  longer->push_back(std::move(adapter));
  publish(std::move(longer));
}

void remove_adapter(const adapted_thread_local& adapter) noexcept {
  const std::lock_guard lock(changing);
  auto shorter = std::make_unique<adapter_list>(*adapters());
  std::erase_if(*shorter, [&](const auto& each) { return each.get() == &adapter; });
  publish(std::move(shorter));
}

void capture_thread_locals(value_cell& running) noexcept {
  const adapter_list* const all = adapters();
  if (!all || !running.is_open()) return;
  for (const auto& each : *all) {
    const context_value* const known = value_in(running, *each);
    const ref_ptr<const context_value> now = each->get(known);
    if (now.get() != known)
      running.set(context_snapshot::with(running.current(), *each->variable(), now));
  }
}

void install_thread_locals(const value_cell& running) noexcept {
  if (const adapter_list* const all = adapters())
    for (const auto& each : *all) each->set(value_in(running, *each));
}

adapted_step::adapted_step(const adapter_list& all, value_cell& cell) : all_(all), cell_(cell) {
  outer_.reserve(all.size());
  for (const auto& each : all) {
    outer_.push_back(each->get(nullptr));
    each->set(value_in(cell, *each));
  }
}

adapted_step::~adapted_step() {
  for (std::size_t i = 0; i < all_.size(); ++i) {
    const adapted_thread_local& each = *all_[i];
    if (cell_.is_open()) {
      const context_value* const known = value_in(cell_, each);
      const ref_ptr<const context_value> now = each.get(known);
      if (now.get() != known)
        cell_.set(context_snapshot::with(cell_.current(), *each.variable(), now));
    }
    each.set(outer_[i].get());
  }
}

}  // namespace bothworlds::detail
