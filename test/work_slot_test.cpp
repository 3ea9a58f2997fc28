// SPDX-License-Identifier: BSL-1.0
#include "../src/work_slot.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <barrier>
#include <exception>
#include <source_location>
#include <thread>

using bothworlds::detail::work;
using bothworlds::detail::work_slot;

namespace {

class item final : public work {
public:
  item() noexcept : work(std::source_location::current()) {}
  ~item() override = default;
  void run() noexcept override {}
  void refuse(std::exception_ptr) noexcept override {}
};

constexpr work_slot::key mine = 2, other = 4;

}  // namespace

TEST_CASE("a work_slot takes one item, while it is open, from who knows for what") {
  item first, second;
  intrusive_ptr_add_ref(&first);
  intrusive_ptr_add_ref(&second);
  work_slot slot;
  CHECK(slot.open_for() == 0);
  CHECK_FALSE(slot.put(first, mine));
  slot.open(mine);
  CHECK(slot.open_for() == mine);
  CHECK_FALSE(slot.put(first, other));
  CHECK_FALSE(slot.is_filled());
  CHECK(first.owners() == 1);

  CHECK(slot.put(first, mine));
  CHECK(slot.is_filled());
  CHECK(slot.open_for() == 0);
  CHECK(first.owners() == 2);
  CHECK_FALSE(slot.put(second, mine));
  CHECK(second.owners() == 1);

  CHECK(slot.close() == &first);
  CHECK(first.owners() == 2);
  CHECK(slot.close() == nullptr);
  CHECK_FALSE(slot.is_filled());
  CHECK_FALSE(slot.put(second, mine));
}

TEST_CASE("a work_slot that closes unfilled has nothing, and takes nothing any more") {
  item one;
  intrusive_ptr_add_ref(&one);
  work_slot slot;
  slot.open(mine);
  CHECK(slot.close() == nullptr);
  CHECK_FALSE(slot.put(one, mine));
  CHECK(one.owners() == 1);
}

TEST_CASE(
    "of those who put into a work_slot at once one succeeds, and what it closes with is theirs") {
  constexpr int rounds = 20'000;
  work_slot slot;
  item items[2];
  for (item& each : items) intrusive_ptr_add_ref(&each);
  std::atomic<int> put[2] = {0, 0};
  int found[2] = {0, 0};
  std::barrier in_step(3);
  const auto fill = [&](int id) {
    for (int round = 0; round < rounds; ++round) {
      in_step.arrive_and_wait();
      if (slot.put(items[id], mine)) ++put[id];
      in_step.arrive_and_wait();
    }
  };
  std::thread first(fill, 0), second(fill, 1);
  for (int round = 0; round < rounds; ++round) {
    slot.open(mine);
    in_step.arrive_and_wait();
    // Now and then it closes under their hands.
    work* held = round % 4 == 0 ? slot.close() : nullptr;
    in_step.arrive_and_wait();
    if (!held) held = slot.close();
    for (int id = 0; id < 2; ++id) found[id] += held == &items[id];
  }
  first.join();
  second.join();
  for (int id = 0; id < 2; ++id) {
    CHECK(put[id] == found[id]);
    CHECK(items[id].owners() == 1 + static_cast<unsigned>(found[id]));
  }
}
