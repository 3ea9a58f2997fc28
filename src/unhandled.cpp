// SPDX-License-Identifier: BSL-1.0
#include "unhandled.hpp"

#include "describe.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace bothworlds::detail {
namespace {

std::string message_of(const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const std::exception& e) {
    return e.what();
  } catch (...) {
    return "an exception that is no std::exception";
  }
}

void tell(std::source_location where, const char* what, const std::string& more) noexcept {
  try {
    const std::string text = std::string("bothworlds: ") + what + "\n  at   " + describe(where) +
                             " in " + without_coroutine_frame(where.function_name()) + "\n" + more;
    std::fputs(text.c_str(), stderr);
  } catch (...) {
    std::fprintf(stderr, "bothworlds: %s\n  at   %s:%u\n", what, where.file_name(),
                 static_cast<unsigned>(where.line()));
  }
}

}  // namespace

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

void report_failure(const std::exception_ptr& failure, std::source_location where, const char* what,
                    const char* advice) noexcept {
  try {
    tell(where, what, "  why  " + message_of(failure) + "\n" + advice);
  } catch (...) {
    tell(where, what, {});
  }
}

void report_misuse(std::source_location where, const char* what, const char* advice) noexcept {
  try {
    tell(where, what, advice);
  } catch (...) {
    tell(where, what, {});
  }
}

bool debug_mode() noexcept {
  static const bool wanted = [] {
    const char* const value = std::getenv("BOTHWORLDS_DEBUG");
    return value && std::strcmp(value, "1") == 0;
  }();
  return wanted;
}

}  // namespace bothworlds::detail
