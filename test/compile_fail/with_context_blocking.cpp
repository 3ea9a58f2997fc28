// SPDX-License-Identifier: BSL-1.0
// case: with_thread_sensitive_context refuses a blocking function
// expect: returns an asio::awaitable
#include <bothworlds/thread_sensitive.hpp>

void blocking();

void wrap() { (void)bothworlds::with_thread_sensitive_context(blocking); }
