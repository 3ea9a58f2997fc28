// SPDX-License-Identifier: BSL-1.0
//
// Cases that go wrong on purpose, one at a time, for watchdog_check.py.
#include <doctest/doctest.h>

#include <cstdlib>
#include <latch>
#include <thread>

namespace {

[[gnu::noinline]] void wait_for_ever() {
  std::latch never(1);
  never.wait();
}

}  // namespace

TEST_CASE("passes") { CHECK(true); }

TEST_CASE("fails") { CHECK(false); }

TEST_CASE("hangs") {
  std::thread other(wait_for_ever);
  other.join();
}

TEST_CASE("crashes") { std::abort(); }
