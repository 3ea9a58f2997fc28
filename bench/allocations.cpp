// SPDX-License-Identifier: BSL-1.0
//
// Counts the heap allocations of a warm call, on all threads, for the subjects whose names begin
// with one of the arguments. Prints JSON: {"B3/bothworlds": 0.0, …}.
#include "cases.hpp"
#include "counting_heap.hpp"

#include <bothworlds/deadlock.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <string_view>

namespace {

/// In `rounds` rounds, when it is warm: the least of three counts, because now and then the scheduler
/// lets a thread take part whose caches are not filled yet.
double allocations(bench::subject& subject, const bench::entry& what, std::size_t rounds) {
  subject.run(what.warm_rounds + 2 * rounds);
  std::uint64_t least = std::numeric_limits<std::uint64_t>::max();
  for (int time = 0; time < 3 && least != 0; ++time) {
    const std::uint64_t before = bench::heap_allocations();
    subject.run(rounds);
    least = std::min(least, bench::heap_allocations() - before);
  }
  return static_cast<double>(least);
}

/// As many as make 20,000 calls, or take a second: the longest calls take a millisecond each.
std::size_t rounds_to_count(const bench::entry& what) {
  using clock = std::chrono::steady_clock;
  constexpr std::size_t calls = 20'000;
  const std::size_t wanted = (calls + what.calls_per_round - 1) / what.calls_per_round;
  const std::size_t tried = std::min(what.warm_rounds, wanted);
  const auto subject = what.make();
  subject->run(tried);  // what is made once
  const auto before = clock::now();
  subject->run(tried);
  const double seconds = std::chrono::duration<double>(clock::now() - before).count();
  return std::clamp(static_cast<std::size_t>(static_cast<double>(tried) / seconds), tried, wanted);
}

double allocations_per_call(const bench::entry& what) {
  const std::size_t rounds = rounds_to_count(what);
  double made = allocations(*what.make(), what, rounds);
  if (what.make_longer) made = allocations(*what.make_longer(), what, rounds) - made;
  return made / static_cast<double>(rounds * what.calls_per_round);
}

}  // namespace

int main(int argc, char** argv) {
  // Five times a second somebody looks for deadlocks, which takes memory, but is no part of a call.
  bothworlds::set_deadlock_options({.policy = bothworlds::on_deadlock::off});
  const bench::registry cases = bench::all_cases();
  const char* separator = "{\n";
  for (const bench::entry& what : cases.entries())
    for (int i = 1; i < argc; ++i)
      if (std::string_view(what.name).starts_with(argv[i])) {
        std::printf("%s  \"%s\": %.4f", separator, what.name.c_str(), allocations_per_call(what));
        std::fflush(stdout);
        separator = ",\n";
      }
  std::puts(*separator == '{' ? "{}" : "\n}");
}
