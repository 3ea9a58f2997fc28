// SPDX-License-Identifier: BSL-1.0
//
// Counts the heap allocations of a warm call, on all threads, for the subjects whose names begin
// with one of the arguments. Prints JSON: {"B3/bothworlds": 0.0, …}.
#include "cases.hpp"
#include "counting_heap.hpp"

#include <cstdio>
#include <string_view>

namespace {

double allocations_per_call(const bench::entry& what) {
  constexpr std::size_t least_calls = 20'000;
  const auto subject = what.make();
  const std::size_t rounds = (least_calls + what.calls_per_round - 1) / what.calls_per_round;
  // Warm: every thread that takes part has its caches filled.
  subject->run(what.warm_rounds + 2 * rounds);
  const std::uint64_t before = bench::heap_allocations();
  subject->run(rounds);
  const auto made = static_cast<double>(bench::heap_allocations() - before);
  return made / static_cast<double>(rounds * what.calls_per_round);
}

}  // namespace

int main(int argc, char** argv) {
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
