// SPDX-License-Identifier: BSL-1.0
#include "unhandled.hpp"

#include <cstdio>
#include <exception>

namespace bothworlds::detail {

void report_unhandled(const char* where) noexcept {
  try {
    throw;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bothworlds: an exception left %s: %s\n", where, e.what());
  } catch (...) {
    std::fprintf(stderr, "bothworlds: an exception that is no std::exception left %s\n", where);
  }
}

void call_hook(const std::function<void()>& hook, const char* where) noexcept {
  if (!hook) return;
  try {
    hook();
  } catch (...) {
    report_unhandled(where);
  }
}

}  // namespace bothworlds::detail
