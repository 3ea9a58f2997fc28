// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <bothworlds/config.hpp>
#include <bothworlds/detail/ref_counted.hpp>

#include <boost/asio/awaitable.hpp>

#include <cstddef>

namespace bothworlds::detail {

class async_call;
/// What a bothworlds::context holds.
class context_state;

BOTHWORLDS_API void intrusive_ptr_add_ref(const context_state* state) noexcept;
BOTHWORLDS_API void intrusive_ptr_release(const context_state* state) noexcept;

/// A context with the values of the code that runs now. Throws std::bad_alloc.
BOTHWORLDS_API ref_ptr<context_state> capture_context();

/// Runs `call` in a context, when those that came before it have ended: it begins with the
/// context's values, and what it changes stays there.
BOTHWORLDS_API boost::asio::awaitable<void> run_in_context(ref_ptr<async_call> call,
                                                           ref_ptr<context_state> in);

/// While it lives, the code on top of it runs in a copy of a context. Strictly nested, on one
/// thread.
class BOTHWORLDS_API context_copy {
public:
  explicit context_copy(const context_state& original) noexcept;
  ~context_copy();
  context_copy(const context_copy&) = delete;
  context_copy& operator=(const context_copy&) = delete;

private:
  struct scope;
  alignas(std::max_align_t) std::byte storage_[160];
};

}  // namespace bothworlds::detail
