// SPDX-License-Identifier: BSL-1.0
//
// Runs one subject, for callgrind and perf: bench_profile SUBJECT ROUNDS. What two runs with
// different ROUNDS differ in is the cost of the rounds; instruction counts repeat exactly.
#include "cases.hpp"

#include <cstdio>
#include <cstdlib>

int main(int argc, char** argv) {
  if (argc != 3) return std::fputs("bench_profile SUBJECT ROUNDS\n", stderr), 2;
  const bench::registry cases = bench::all_cases();
  for (const bench::entry& what : cases.entries())
    if (what.name == argv[1]) {
      const auto subject = what.make();
      subject->run(what.warm_rounds);
      subject->run(std::strtoul(argv[2], nullptr, 10));
      return 0;
    }
  std::fprintf(stderr, "bench_profile: there is no '%s'\n", argv[1]);
  return 2;
}
