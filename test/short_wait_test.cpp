// SPDX-License-Identifier: BSL-1.0
//
// Of the library's inside, and so compiled into this program: how a wait learns cannot be seen from
// outside, other than in a benchmark.
#include "../src/short_wait.hpp"

#include <doctest/doctest.h>

using bothworlds::detail::learned_habit;
using bothworlds::detail::short_gather;
using bothworlds::detail::short_wait;
using bothworlds::detail::spin_rounds;

namespace {

/// How often it is not done before it is done again.
int times_skipped(learned_habit& habit) {
  int skipped = 0;
  while (!habit.now()) ++skipped;
  return skipped;
}

}  // namespace

TEST_CASE("what has paid is done every time, what was in vain down to once in 256 times") {
  learned_habit habit;
  for (int i = 0; i < 1000; ++i) {
    CHECK(habit.now());
    habit.learn(true);
  }
  for (const int expected : {1, 3, 7, 15, 31, 63, 127, 255, 255, 255}) {
    habit.learn(false);
    CHECK(times_skipped(habit) == expected);
  }
  habit.learn(true);
  CHECK(times_skipped(habit) == 0);
}

TEST_CASE("a short wait looks again and again, and only once where that was in vain") {
  short_wait wait;
  int looks = 0;
  const auto never = [&] { return ++looks, false; };
  CHECK(!wait(never));
  // Where one CPU may run this, a yield after which somebody else has had it for long is the last.
  CHECK(looks >= (spin_rounds() != 0 ? spin_rounds() + 1 : 2));
  looks = 0;
  CHECK(!wait(never));
  CHECK(looks == 1);
}

TEST_CASE("a short wait ends as soon as what it waits for is there") {
  short_wait wait;
  int looks = 0;
  CHECK(wait([&] { return ++looks == 2; }));
  CHECK(looks == 2);
}

TEST_CASE("a gather ends when no more come, and after a while also if they do") {
  short_gather gather;
  int looks = 0;
  if (spin_rounds() == 0) {
    CHECK(!gather([&] { return ++looks, true; }));
    CHECK(looks == 0);
    return;
  }
  CHECK(gather([&] { return ++looks < 3; }));
  CHECK(looks == 3);
  gather.learn(4);
  looks = 0;
  CHECK(gather([&] { return ++looks, true; }));
  CHECK(looks == 8);
}

TEST_CASE("a gather that brought too few together is not made the next time") {
  if (spin_rounds() == 0) return;
  short_gather gather;
  int looks = 0;
  const auto none = [&] { return ++looks, false; };
  CHECK(gather(none));
  gather.learn(4);
  CHECK(gather(none));
  gather.learn(3);
  looks = 0;
  CHECK(!gather(none));
  CHECK(looks == 0);
  CHECK(gather(none));
}
