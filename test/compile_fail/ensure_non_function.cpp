// SPDX-License-Identifier: BSL-1.0
// case: ensure_async refuses what is not callable
// expect: not callable
#include <bothworlds/ensure.hpp>

void wrap() { (void)bothworlds::ensure_async(1); }
