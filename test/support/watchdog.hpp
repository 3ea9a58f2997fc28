// SPDX-License-Identifier: BSL-1.0
//
// A test case that hangs says where. Each case gets a deadline; when it passes, the stacks of all
// threads are printed, by gdb where there is one and by a signal handler in each thread in any
// case, then the name of the case, and the process ends with watchdog_exit_code. A case that
// crashes is named, too.
//
// The deadline is 60 s, five times that under a sanitizer, or BOTHWORLDS_TEST_TIMEOUT seconds. With
// BOTHWORLDS_TEST_LONG set it is sixty times as long.
#pragma once

namespace bothworlds::testing {

inline constexpr int watchdog_exit_code = 99;

// From main() only.
void watchdog_start();
void watchdog_stop();

// From the thread that runs the cases. `name` is read until the next call.
void watchdog_arm(const char* name);
void watchdog_disarm();

// Prints the stacks of all threads to stderr; for a test that found out by itself that something is
// stuck.
void dump_all_stacks();

}  // namespace bothworlds::testing
