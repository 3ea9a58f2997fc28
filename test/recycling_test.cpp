// SPDX-License-Identifier: BSL-1.0
//
// That a warm call allocates nothing is looked at where allocations are counted: test/bench/run.py.
#include <bothworlds/detail/recycling.hpp>

#include <doctest/doctest.h>

#include <barrier>
#include <cstring>
#include <thread>
#include <vector>

using bothworlds::detail::recycle_allocate;
using bothworlds::detail::recycle_deallocate;

TEST_CASE("no block has two owners, whatever threads allocate and free it") {
  constexpr std::size_t threads = 4, bytes = 200;
  std::barrier in_step(threads);
  std::vector<std::vector<unsigned char*>> blocks(threads);
  std::vector<int> wrong(threads);
  const auto work = [&](std::size_t id) {
    const std::size_t next = (id + 1) % threads;
    for (int round = 0; round < 50; ++round) {
      // More than a thread keeps, so that batches go through the exchange both ways.
      while (blocks[id].size() < 100 + 20 * id) {
        blocks[id].push_back(static_cast<unsigned char*>(recycle_allocate(bytes)));
        std::memset(blocks[id].back(), static_cast<int>(id), bytes);
      }
      in_step.arrive_and_wait();
      for (unsigned char* block : blocks[next]) {
        wrong[id] += block[0] != next || block[bytes - 1] != next;
        recycle_deallocate(block, bytes);
      }
      in_step.arrive_and_wait();
      blocks[id].clear();
    }
  };
  std::vector<std::thread> team;
  for (std::size_t id = 0; id < threads; ++id) team.emplace_back(work, id);
  for (std::thread& thread : team) thread.join();
  for (const int count : wrong) CHECK(count == 0);
}
