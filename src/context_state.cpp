// SPDX-License-Identifier: BSL-1.0
#include "context_state.hpp"

#include "thread_state.hpp"

#include <memory>
#include <new>

namespace bothworlds::detail {

void intrusive_ptr_add_ref(const context_state* state) noexcept {
  intrusive_ptr_add_ref(static_cast<const ref_counted*>(state));
}
void intrusive_ptr_release(const context_state* state) noexcept {
  intrusive_ptr_release(static_cast<const ref_counted*>(state));
}

ref_ptr<context_state> capture_context() {
  return ref_ptr<context_state>(new context_state(current_snapshot()));
}

struct context_copy::scope {
  explicit scope(const context_state& original) noexcept : installed(&cell) { cell.begin(original.share()); }

  value_cell cell;
  const cell_scope installed;
};

context_copy::context_copy(const context_state& original) noexcept {
  static_assert(sizeof(scope) <= sizeof storage_);
  new (storage_) scope(original);
}

context_copy::~context_copy() { std::destroy_at(std::launder(reinterpret_cast<scope*>(storage_))); }

}  // namespace bothworlds::detail
