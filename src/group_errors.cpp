// SPDX-License-Identifier: BSL-1.0
#include "group_errors.hpp"

#include "context_values.hpp"
#include "unhandled.hpp"

#include <bothworlds/errors_of.hpp>

#include <new>

namespace bothworlds {
namespace detail {
namespace {

using error_list = std::vector<std::exception_ptr>;

const ref_ptr<context_variable>& last_errors() {
  // Never destroyed: code may look at errors while the process ends.
  static const auto* const variable = new ref_ptr<context_variable>(
      new context_variable("the errors of the last group that failed"));
  return *variable;
}

}  // namespace

void keep_errors(std::vector<std::exception_ptr> errors, std::source_location where) noexcept {
  if (errors.size() < 2) return;
  try {
    if (value_cell* const cell = current_cell()) {
      const ref_ptr<const context_value> kept(new stored_value<error_list>(last_errors(), errors));
      return cell->set(context_snapshot::with(cell->current(), *last_errors(), kept));
    }
  } catch (const std::bad_alloc&) {
    // Then they are at least told.
  }
  for (std::size_t other = 1; other < errors.size(); ++other)
    report_failure(errors[other], where, "one more error of a group that has failed", "");
}

}  // namespace detail

std::vector<std::exception_ptr> errors_of(const std::exception_ptr& thrown) {
  if (!thrown) return {};
  if (const detail::context_value* const kept = detail::current_value(*detail::last_errors())) {
    const auto& all = static_cast<const detail::stored_value<detail::error_list>*>(kept)->get();
    if (all.front() == thrown) return all;
  }
  return {thrown};
}

}  // namespace bothworlds
