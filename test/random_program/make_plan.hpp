// SPDX-License-Identifier: BSL-1.0
//
// From a seed to a program.
#pragma once

#include "random_program/plan.hpp"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>

namespace bothworlds::testing::random_program {

/// The same numbers everywhere, unlike the distributions of the standard library.
class dice {
public:
  explicit dice(std::uint64_t seed) : state_(seed * 0x2545f4914f6cdd1dULL + 1) {}
  std::uint64_t below(std::uint64_t limit) { return next() % limit; }
  bool percent(unsigned chance) { return below(100) < chance; }
  template <class T, std::size_t n>
  T one_of(const T (&list)[n]) {
    return list[below(n)];
  }

private:
  std::uint64_t next() {
    std::uint64_t x = (state_ += 0x9e3779b97f4a7c15ULL);
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
  }
  std::uint64_t state_;
};

class plan_maker {
public:
  plan_maker(std::uint64_t seed, root_kind root) : dice_(seed) {
    plan_.seed = seed;
    plan_.root = root;
    plan_.workers = 1 + static_cast<unsigned>(dice_.below(3));
    if (dice_.percent(50))
      plan_.worker_limit = plan_.workers + static_cast<unsigned>(dice_.below(3));
    plan_.erased_strand = dice_.percent(50);
    constexpr int sizes[] = {6, 12, 12, 20, 20, 40};
    budget_ = dice_.one_of(sizes);
    deep_ = dice_.percent(40);
  }

  plan make() {
    surroundings start;
    start.depth = deep_ ? 10 : 3 + static_cast<int>(dice_.below(6));
    start.sync_root = is_sync(plan_.root);
    start.serial = plan_.root != root_kind::two_thread_loop;
    plan_.top = make_node(start, start.sync_root, nullptr);
    plan_.nodes = static_cast<int>(next_id_ - 1);
    return std::move(plan_);
  }

private:
  /// What a node is told about where it stands.
  struct surroundings {
    int depth = 0;  // how many levels may follow
    bool sync_root = false;
    bool in_context = false;
    bool serial = true;  // at most one thread at a time runs the coroutines here
    bool racing = false;
    bool by_loop = false;  // no blocking code between the guard and here
    bool top = true;
    bool blocking_parent = false;
  };

  std::unique_ptr<node> make_node(surroundings here, bool blocking, edge* guard) {
    auto made = std::make_unique<node>();
    node& n = *made;
    n.id = next_id_++;
    --budget_;
    n.blocking = blocking;
    n.racing = here.racing;
    n.result = static_cast<result_kind>(dice_.below(result_kinds));
    if (guard && !here.top && (here.depth <= 0 || budget_ <= 0 || dice_.percent(30))) {
      make_target(n, here, *guard);
      return made;
    }
    if (dice_.percent(9)) {
      n.throws = random_exception();
      n.throws_first = !guard && dice_.percent(30);
    }
    if (here.top && blocking) {
      n.runs_on = place_kind::inline_in_parent;
    } else if (blocking) {
      n.runs_on = dice_.percent(50) ? place_kind::pool : place_kind::sensitive;
      n.takes_token = dice_.percent(20);
    }
    make_children(n, here, guard);
    if (blocking && !here.top) {
      if (n.children.empty() && dice_.percent(12)) n.runs_on = place_kind::executor;
      n.has_interruption_point = dice_.percent(30);
      if (here.blocking_parent && dice_.percent(40)) {
        n.runs_on = place_kind::inline_in_parent;
        n.takes_token = false;
      }
    }
    return made;
  }

  void make_target(node& n, const surroundings& here, edge& guard) {
    guard.target = &n;
    constexpr answer answers[] = {answer::give_up, answer::value, answer::raise};
    n.then = dice_.one_of(answers);
    n.throws = random_exception();
    if (!n.blocking) {
      n.target = target_kind::coroutine;
      return;
    }
    n.runs_on = dice_.percent(50) ? place_kind::pool : place_kind::sensitive;
    if (dice_.percent(10)) n.runs_on = place_kind::executor;
    constexpr target_kind kinds[] = {target_kind::stop_token,  target_kind::stop_token,
                                     target_kind::interruptor, target_kind::interruptor,
                                     target_kind::abandon,     target_kind::left_behind};
    n.target = dice_.one_of(kinds);
    // Where blocking code waits for what is left behind, maybe on the very thread that it occupies,
    // nobody would ever release it.
    if (n.target == target_kind::left_behind && !here.by_loop) n.target = target_kind::abandon;
    n.takes_token = n.target == target_kind::stop_token || n.target == target_kind::abandon;
    // An abandoned callable has nowhere to put it.
    if (n.target >= target_kind::abandon) n.result = result_kind::word;
  }

  void make_children(node& n, const surroundings& here, edge* guard) {
    surroundings below = here;
    below.top = false;
    below.depth = here.depth - 1;
    below.blocking_parent = n.blocking;
    if (n.blocking) {
      below.serial = true;
      below.by_loop = false;
    } else if (dice_.percent(12)) {
      n.opens_context = true;
      n.context_is_new = !here.sync_root && !here.in_context;
      below.in_context = true;
    }
    std::uint64_t count = 0;
    if (here.depth > 0 && budget_ > 0) {
      if (deep_)
        count = dice_.percent(75) ? 1 : dice_.below(4);
      else
        count = dice_.below(4);
      if (here.top) count = std::max<std::uint64_t>(count, 1);
    }
    if (guard) count = std::max<std::uint64_t>(count, 1);
    if (count == 0) return;
    if (!n.blocking && here.serial && count > 1 && dice_.percent(50)) {
      // A task that is not joined outlives its parent: not where the parent may be cancelled.
      constexpr grouping groups[] = {grouping::parallel_group, grouping::and_operator,
                                     grouping::tasks};
      n.group = groups[dice_.below(guard || here.racing ? 2 : 3)];
    }
    const std::uint64_t on_path = guard ? dice_.below(count) : count;
    for (std::uint64_t i = 0; i < count; ++i) make_edge(n, below, i == on_path ? guard : nullptr);
  }

  void make_edge(node& parent, surroundings below, edge* path_of) {
    edge& e = *parent.children.emplace_back(std::make_unique<edge>());
    e.on_path = path_of != nullptr;
    if (!below.racing && dice_.percent(55)) {
      e.catches = all_endings;
      if (dice_.percent(40)) e.catches = static_cast<unsigned>(dice_.below(all_endings + 1));
    }
    if (!path_of && !below.racing && parent.group == grouping::sequential && dice_.percent(22))
      e.guard = random_guard(parent.blocking, below.serial);
    edge* target_of = path_of;
    if (e.races()) {
      below.racing = true;
      e.race_steps = static_cast<int>(dice_.below(25));
      e.patience = std::chrono::microseconds(dice_.below(400));
    } else if (e.guard != guard_kind::none) {
      target_of = &e;
      below.by_loop = e.guard != guard_kind::stop_token;
    }
    const bool blocking = dice_.percent(parent.blocking ? 25 : 60);
    e.child = make_node(below, blocking, target_of);
    e.force_new_loop = parent.blocking && dice_.percent(12);
    // A timeout and a stop token belong to a call of async_to_sync.
    if (parent.blocking && e.guard != guard_kind::none &&
        e.child->runs_on == place_kind::inline_in_parent)
      e.child->runs_on = place_kind::sensitive;
    if (e.child->children.empty() && e.guard == guard_kind::none && !e.on_path && dice_.percent(20))
      e.calls = 2;
  }

  guard_kind random_guard(bool blocking, bool serial) {
    if (blocking) return dice_.percent(60) ? guard_kind::stop_token : guard_kind::timeout;
    constexpr guard_kind kinds[] = {guard_kind::or_, guard_kind::and_, guard_kind::signal,
                                    guard_kind::race};
    return serial ? dice_.one_of(kinds) : guard_kind::none;
  }

  ending random_exception() {
    constexpr ending kinds[] = {ending::number,  ending::plain,  ending::message,
                                ending::counted, ending::system, ending::aborted};
    return dice_.one_of(kinds);
  }

  plan plan_;
  dice dice_;
  std::uint64_t next_id_ = 1;
  int budget_ = 0;
  bool deep_ = false;
};

inline plan make_plan(std::uint64_t seed, root_kind root) { return plan_maker(seed, root).make(); }

inline void describe(const node& n, const edge* e, int depth, std::string& text) {
  constexpr const char* places[] = {"pool", "sensitive", "executor", "inline"};
  constexpr const char* groups[] = {"", " parallel_group", " &&", " tasks"};
  constexpr const char* guards[] = {"",       " [||",         " [&&",     " [signal",
                                    " [race", " [stop_token", " [timeout"};
  constexpr const char* targets[] = {"",
                                     " target:suspends",
                                     " target:stop_token",
                                     " target:interruptor",
                                     " target:abandon",
                                     " target:left_behind"};
  constexpr const char* answers[] = {" gives up", " returns", " throws"};
  text += std::string(static_cast<std::size_t>(depth) * 2 + 2, ' ') + std::to_string(n.id);
  text +=
      n.blocking ? std::string(" blocking ") + places[static_cast<int>(n.runs_on)] : " coroutine";
  text += groups[static_cast<int>(n.group)];
  if (n.opens_context) text += n.context_is_new ? " context" : " context(shared)";
  if (n.takes_token) text += " token";
  text += targets[static_cast<int>(n.target)];
  if (n.target != target_kind::none) text += answers[static_cast<int>(n.then)];
  if (n.throws && n.target == target_kind::none)
    text += std::string(n.throws_first ? " first" : " last") + " throws " +
            to_string(raised(*n.throws, n.id));
  if (e) {
    if (e->guard != guard_kind::none) text += std::string(guards[static_cast<int>(e->guard)]) + "]";
    if (e->on_path) text += " on path";
    if (e->catches) text += " caught:" + std::to_string(e->catches);
    if (e->calls > 1) text += " twice";
    if (e->force_new_loop) text += " new loop";
  }
  text +=
      "; ran " + std::to_string(n.runs.load()) + " of " + std::to_string(n.expected_runs) + "\n";
  for (const auto& child : n.children) describe(*child->child, child.get(), depth + 1, text);
}

/// One line for each node.
inline std::string describe(const plan& program) {
  constexpr const char* roots[] = {"plain thread", "fresh thread", "single loop",
                                   "fresh loop",   "strand",       "two-thread loop"};
  std::string text = std::string("  from a ") + roots[static_cast<int>(program.root)] +
                     ", pool of " + std::to_string(program.workers) + " to " +
                     std::to_string(program.worker_limit) + "\n";
  describe(*program.top, nullptr, 0, text);
  return text;
}

}  // namespace bothworlds::testing::random_program
