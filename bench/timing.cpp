// SPDX-License-Identifier: BSL-1.0
//
// Times the subjects; Google Benchmark chooses how often, and puts out the figures. All arguments
// are Google Benchmark's:
// --benchmark_filter='^B3/' --benchmark_repetitions=9 --benchmark_enable_random_interleaving=true …
#include "cases.hpp"

#include <benchmark/benchmark.h>

namespace {

void measure(benchmark::State& state, const bench::entry& what) {
  const auto subject = what.make();
  subject->run(what.warm_rounds);
  while (state.KeepRunningBatch(state.max_iterations))
    subject->run(static_cast<std::size_t>(state.max_iterations));
  state.counters["calls"] = static_cast<double>(what.calls_per_round);
}

}  // namespace

int main(int argc, char** argv) {
  const bench::registry cases = bench::all_cases();
  for (const bench::entry& what : cases.entries())
    benchmark::RegisterBenchmark(what.name.c_str(), measure, what)
        ->UseRealTime()
        ->MeasureProcessCPUTime();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
}
