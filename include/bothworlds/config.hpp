// SPDX-License-Identifier: BSL-1.0
//
// Macros, all of them: this is the only header of the library that defines any for others to use.
#pragma once

#if defined(__GNUC__)
#define BOTHWORLDS_API __attribute__((visibility("default")))
#define BOTHWORLDS_NOINLINE [[gnu::noinline]]
#else
#define BOTHWORLDS_API
#define BOTHWORLDS_NOINLINE
#endif

// g++ warns of a coroutine in a header whose frame holds a type of an anonymous namespace, though
// each such frame stays in its translation unit; and, where it has inlined half of that, of Asio's
// operator new and delete for frames.
#if defined(__GNUC__) && !defined(__clang__)
#define BOTHWORLDS_COROUTINE_TEMPLATES_BEGIN                                               \
  _Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wsubobject-linkage\"") \
      _Pragma("GCC diagnostic ignored \"-Wmismatched-new-delete\"")
#define BOTHWORLDS_COROUTINE_TEMPLATES_END _Pragma("GCC diagnostic pop")
#else
#define BOTHWORLDS_COROUTINE_TEMPLATES_BEGIN
#define BOTHWORLDS_COROUTINE_TEMPLATES_END
#endif

// g++ 12 destroys some temporaries of a co_await expression twice (docs/design.md, "GCC 12").
// There, handing a closure with a destructor to a bridge as a temporary draws a warning. Define
// BOTHWORLDS_NO_COROUTINE_TEMPORARY_WARNING to silence it where the spelling was checked to be
// safe.
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ <= 12 && \
    !defined(BOTHWORLDS_NO_COROUTINE_TEMPORARY_WARNING)
#define BOTHWORLDS_WARN_COROUTINE_TEMPORARY 1
#else
#define BOTHWORLDS_WARN_COROUTINE_TEMPORARY 0
#endif
