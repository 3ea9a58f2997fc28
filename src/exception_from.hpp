// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <exception>

namespace bothworlds::detail {

/// What `make` gives; std::bad_alloc instead where memory is too short to make it. For places that
/// must not throw.
template <class Make>
std::exception_ptr exception_from(Make make) noexcept {
  try {
    return std::make_exception_ptr(make());
  } catch (...) {
    return std::current_exception();
  }
}

}  // namespace bothworlds::detail
