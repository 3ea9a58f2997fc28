// SPDX-License-Identifier: BSL-1.0
//
// Random programs against an oracle that has worked out what they must do.
//
// A program that fails is printed with its seed; BOTHWORLDS_SEED=n in the environment runs that one
// a hundred times in each case, for threads do not repeat themselves. One that hangs or crashes is
// named by the watchdog. BOTHWORLDS_PROGRAMS=n sets the number of programs in each case. With
// BOTHWORLDS_TEST_LONG (tools/test --long) or BOTHWORLDS_LONG in the environment there are
// millions, from seeds that differ with each run.

#include "random_program/make_plan.hpp"
#include "random_program/oracle.hpp"
#include "random_program/roots.hpp"
#include "support/watchdog.hpp"

#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

using namespace bothworlds::testing;
using namespace bothworlds::testing::random_program;

namespace {

#if defined(__has_feature)
#define HAS_FEATURE(name) __has_feature(name)
#else
#define HAS_FEATURE(name) 0
#endif
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__) || \
    HAS_FEATURE(thread_sanitizer) || HAS_FEATURE(address_sanitizer)
constexpr std::uint64_t programs_by_default = 100;
#else
constexpr std::uint64_t programs_by_default = 750;
#endif
constexpr std::uint64_t programs_of_a_long_run = 500'000;
constexpr int replays = 100;

std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
  const char* const text = std::getenv(variable);
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

bool is_long_run() { return std::getenv("BOTHWORLDS_TEST_LONG") || std::getenv("BOTHWORLDS_LONG"); }

std::uint64_t programs_in_a_case() {
  return number_from("BOTHWORLDS_PROGRAMS",
                     is_long_run() ? programs_of_a_long_run : programs_by_default);
}

executor_threads& the_executor() {
  static executor_threads threads;
  return threads;
}

// Where thread-sensitive nodes run that have neither a sync root nor a context: the same thread in
// all programs.
sync_place& the_process() {
  static sync_place process;
  return process;
}

/// One program, what it must do and what it did.
class performance {
public:
  performance(std::uint64_t seed, root_kind root)
      : plan_(make_plan(seed, root)), expected_(oracle().foretell(plan_)) {}

  const plan& program() const { return plan_; }
  const interpreter& ran() const { return *interpreter_; }

  void run(stage& on) {
    interpreter_.emplace(plan_, on, the_executor(), the_process());
    seen_ = interpreter_->run();
    interpreter_->wait_for_stragglers();
  }

  /// Empty if everything was as it must be.
  std::string complaints() const {
    std::string text = interpreter_->violations();
    if (!(seen_ == expected_))
      text += "  ended with " + to_string(seen_) + " instead of " + to_string(expected_) + "\n";
    if (!ran_as_expected(*plan_.top, nullptr)) text += "  other nodes ran than expected\n";
    return text;
  }

private:
  // In a race whatever is below may have been left out, unless it gave its result.
  static bool ran_as_expected(const node& n, const edge* race) {
    const int runs = n.runs.load();
    if (runs != n.expected_runs && (!race || race->ended_with_value || runs > n.expected_runs))
      return false;
    for (const auto& e : n.children)
      if (!ran_as_expected(*e->child, e->races() ? e.get() : race)) return false;
    return true;
  }

  plan plan_;
  outcome expected_;
  outcome seen_;
  std::optional<interpreter> interpreter_;
};

void run_all(std::vector<std::unique_ptr<performance>>& programs, stage& on) {
  std::vector<std::thread> threads;
  for (std::size_t i = 1; i < programs.size(); ++i)
    threads.emplace_back([&, i] { programs[i]->run(on); });
  const root_kind first = programs[0]->program().root;
  if (first == root_kind::fresh_thread || first == root_kind::fresh_loop)
    threads.emplace_back([&] { programs[0]->run(on); });
  else
    programs[0]->run(on);
  for (std::thread& thread : threads) thread.join();
}

/// What the pool has to say when its programs have ended.
std::string complaints_about(stage& on, const std::vector<std::unique_ptr<performance>>& programs) {
  // A callable's caller may go on before the worker has noticed that it is free.
  if (!comes_true([&] { return on.pool().stats().busy == 0; })) return "  the pool is still busy\n";
  const auto stats = on.pool().stats();
  std::string text;
  if (stats.queued != 0) text += "  the pool still has calls queued\n";
  if (stats.blocked_in_bridge != 0) text += "  the pool still counts workers as blocked\n";
  int at_least = 0;
  int at_most = 0;
  for (const auto& program : programs) {
    at_least += program->ran().left_behind();
    at_most += program->ran().abandoned_at_most();
  }
  const auto abandoned = static_cast<int>(stats.abandoned);
  if (abandoned < at_least || abandoned > at_most)
    text += "  the pool counts " + std::to_string(abandoned) + " abandoned callables, not " +
            std::to_string(at_least) + " to " + std::to_string(at_most) + "\n";
  return text;
}

/// Runs programs of these kinds side by side on one pool. False if something was wrong.
bool programs_do_as_foretold(std::uint64_t seed, std::initializer_list<root_kind> roots) {
  // Named after the seed, for the watchdog; it reads the name until it gets the next one.
  static char names[2][64];
  static int turn = 0;
  char* const name = names[turn = 1 - turn];
  std::snprintf(name, sizeof names[0], "a random program; replay: BOTHWORLDS_SEED=%llu",
                static_cast<unsigned long long>(seed));
  watchdog_arm(name);

  const long alive_before = instance::live();  // what an earlier program has lost is its own fault
  std::string complaints;
  std::string trees;
  {
    std::vector<std::unique_ptr<performance>> programs;
    std::uint64_t own_seed = seed;
    for (const root_kind root : roots)
      programs.push_back(std::make_unique<performance>(own_seed++, root));
    {
      stage on(programs[0]->program().workers, programs[0]->program().worker_limit);
      run_all(programs, on);
      complaints += complaints_about(on, programs);
    }
    for (const auto& program : programs) {
      complaints += program->complaints();
      trees += describe(program->program());
    }
  }
  // What an abandoned callable held goes with it, on its own thread.
  if (!comes_true([&] { return instance::live() <= alive_before; }, std::chrono::seconds(5)))
    complaints +=
        "  " + std::to_string(instance::live() - alive_before) + " objects are still alive\n";
  if (complaints.empty()) return true;
  FAIL_CHECK("replay: BOTHWORLDS_SEED=" << seed << "\n" << complaints << trees);
  return false;
}

/// As many programs as this run has time for, with one of these sets of roots after the other.
void check_programs(std::initializer_list<std::initializer_list<root_kind>> casts) {
  int failures = 0;
  const auto check = [&](std::uint64_t seed) {
    // Which set it is must follow from the seed.
    const auto& cast = casts.begin()[seed % casts.size()];
    if (!programs_do_as_foretold(seed, cast)) ++failures;
    return failures < 3;
  };
  if (const std::uint64_t seed = number_from("BOTHWORLDS_SEED", 0)) {
    std::uint64_t own_seed = seed;
    for (const root_kind root : casts.begin()[seed % casts.size()]) {
      const performance shown(own_seed++, root);
      std::fputs(describe(shown.program()).c_str(), stderr);
    }
    for (int i = 0; i < replays; ++i)
      if (!check(seed)) return;
    return;
  }
  std::uint64_t first = 1;
  if (is_long_run()) {
    std::random_device random;
    first += static_cast<std::uint64_t>(random()) * 1'000'000;
    MESSAGE("seeds from " << first);
  }
  const std::uint64_t count = programs_in_a_case();
  for (std::uint64_t seed = first; seed < first + count; ++seed)
    if (!check(seed)) return;
}

}  // namespace

TEST_CASE("random programs that start on a plain thread do what the oracle says") {
  check_programs({{root_kind::plain_thread}, {root_kind::plain_thread}, {root_kind::fresh_thread}});
}

TEST_CASE(
    "random programs that start on a user's io_context with one thread do what the oracle says") {
  check_programs({{root_kind::single_loop}, {root_kind::single_loop}, {root_kind::fresh_loop}});
}

TEST_CASE("random programs that start on an io_context with two threads do what the oracle says") {
  check_programs({{root_kind::strand}, {root_kind::two_thread_loop}});
}

TEST_CASE("random programs that share a small pool do not disturb each other") {
  check_programs({{root_kind::plain_thread, root_kind::fresh_thread},
                  {root_kind::plain_thread, root_kind::fresh_loop},
                  {root_kind::single_loop, root_kind::strand},
                  {root_kind::plain_thread, root_kind::two_thread_loop, root_kind::fresh_loop}});
}
