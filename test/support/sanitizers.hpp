// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <doctest/doctest.h>

#if defined(__SANITIZE_THREAD__)
#define TEST_UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TEST_UNDER_TSAN 1
#endif
#endif

/// After a case's title. ThreadSanitizer's runtime does not support threads in the forked child of
/// a process with threads.
#if defined(TEST_UNDER_TSAN)
#define SKIPPED_UNDER_TSAN *doctest::skip()
#else
#define SKIPPED_UNDER_TSAN
#endif

/// After the title of a case that forks while another thread of the process may be in malloc.
/// AddressSanitizer takes its allocator's locks over fork() only since LLVM 17 and GCC 14. With an
/// older one the child may wait for ever for a lock of a thread that it does not have.
#if defined(__clang__)
#if __has_feature(address_sanitizer) && __clang_major__ < 17
#define TEST_UNDER_OLD_ASAN 1
#endif
#elif defined(__SANITIZE_ADDRESS__) && __GNUC__ < 14
#define TEST_UNDER_OLD_ASAN 1
#endif
#if defined(TEST_UNDER_TSAN) || defined(TEST_UNDER_OLD_ASAN)
#define SKIPPED_WHERE_MALLOC_IS_NOT_FORK_SAFE *doctest::skip()
#else
#define SKIPPED_WHERE_MALLOC_IS_NOT_FORK_SAFE
#endif
