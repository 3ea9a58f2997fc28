// SPDX-License-Identifier: BSL-1.0
//
// For generic code that is handed either kind of callable.
#pragma once

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/sync_to_async.hpp>
#include <bothworlds/traits.hpp>

#include <type_traits>
#include <utility>

namespace bothworlds {

/// Returns `f` itself if it is async already, else sync_to_async(f). A callable whose type does not
/// tell (a generic lambda that needs arguments) counts as blocking; sync_to_async says so if that
/// was wrong.
template <class F>
[[nodiscard]] auto ensure_async(F f, std::source_location where = std::source_location::current()) {
  if constexpr (is_async_callable_v<F>)
    return f;
  else
    return detail::wrap_sync(std::move(f), sync_options{}, where);
}

/// Returns `f` itself if it is blocking already, else async_to_sync(f). A callable whose type does
/// not tell counts as blocking.
template <class F>
[[nodiscard]] auto ensure_sync(F f, std::source_location where = std::source_location::current()) {
  if constexpr (is_async_callable_v<F>)
    return async_to_sync(std::move(f), async_options{}, where);
  else
    return f;
}

}  // namespace bothworlds
