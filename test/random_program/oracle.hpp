// SPDX-License-Identifier: BSL-1.0
//
// What a program must do, worked out without running it: how it ends, and how often each node runs.
//
// Cancellation is Asio's: a thread of coroutines (what one co_spawn starts) that has been cancelled
// gets operation_aborted from its next co_await, for good; blocking code is only told through the
// call that it is blocked in, and through its stop token.
#pragma once

#include "random_program/plan.hpp"

#include <map>
#include <optional>
#include <vector>

namespace bothworlds::testing::random_program {

class oracle {
public:
  /// Fills in what is expected of the nodes.
  outcome foretell(plan& program) {
    if (program.top->blocking) return blocking(*program.top, nullptr);
    coroutine_thread root{nullptr};
    return coroutine(*program.top, root);
  }

private:
  struct coroutine_thread {
    coroutine_thread* parent;  // in which the call that started this one is awaited
    bool cancelled = false;
  };

  static constexpr outcome aborted{ending::aborted, 0};

  /// What a node makes of the ends of its calls, one after the other.
  struct tally {
    std::uint64_t so_far;
    std::optional<outcome> failure;

    bool take(const edge& e, outcome end) {
      if (end.how == ending::value)
        so_far = mix(so_far, end.what);
      else if (e.catches_it(end))
        so_far = mix(so_far, end);
      else
        failure = end;
      return !failure;
    }
  };

  outcome coroutine(node& n, coroutine_thread& in) {
    ++n.expected_runs;
    if (n.target != target_kind::none) return target(n, in);
    if (!n.context_is_new) return body_of_coroutine(n, in);
    coroutine_thread inner{&in};
    return body_of_coroutine(n, inner);
  }

  outcome body_of_coroutine(node& n, coroutine_thread& in) {
    if (n.throws_first) return raised(*n.throws, n.id);
    tally sum{n.id, {}};
    if (n.group == grouping::sequential) {
      for (auto& e : n.children)
        for (int call = 0; call < e->calls; ++call)
          if (!sum.take(*e, in.cancelled ? aborted : guarded(*e, in))) return *sum.failure;
    } else {
      if (in.cancelled) return aborted;
      group(n, in, sum);
      if (sum.failure) return *sum.failure;
    }
    return end_of(n, sum);
  }

  // The child on the path starts when the others have ended.
  void group(node& n, coroutine_thread& in, tally& sum) {
    std::vector<outcome> ends(n.children.size());
    for (bool on_path : {false, true})
      for (std::size_t i = 0; i < ends.size(); ++i) {
        edge& e = *n.children[i];
        if (e.on_path != on_path) continue;
        coroutine_thread own{&in};
        for (int call = 0; call < e.calls; ++call) {
          ends[i] = own.cancelled ? aborted : await_child(e, own);
          if (ends[i].how != ending::value) break;
        }
      }
    for (std::size_t i = 0; i < ends.size(); ++i)
      if (!sum.take(*n.children[i], ends[i])) return;
  }

  outcome await_child(edge& e, coroutine_thread& in) {
    return e.child->blocking ? blocking(*e.child, &in) : coroutine(*e.child, in);
  }

  outcome guarded(edge& e, coroutine_thread& in) {
    if (e.guard == guard_kind::none) return await_child(e, in);
    coroutine_thread victim{&in};
    if (e.target) bases_[e.target] = &victim;
    const outcome end = await_child(e, victim);
    return e.races() ? settle(e, end) : end;
  }

  outcome blocking(node& n, coroutine_thread* awaited_in) {
    ++n.expected_runs;
    if (n.target != target_kind::none) return target(n, *awaited_in);
    if (n.throws_first) return raised(*n.throws, n.id);
    tally sum{n.id, {}};
    for (auto& e : n.children)
      for (int call = 0; call < e->calls; ++call)
        if (!sum.take(*e, call_from_blocking(*e, awaited_in))) return *sum.failure;
    return end_of(n, sum);
  }

  outcome call_from_blocking(edge& e, coroutine_thread* awaited_in) {
    if (e.child->runs_on == place_kind::inline_in_parent && e.child->blocking)
      return blocking(*e.child, awaited_in);
    coroutine_thread own{awaited_in};
    if (e.target) bases_[e.target] = &own;
    const outcome end = await_child(e, own);
    return e.races() ? settle(e, end) : end;
  }

  /// The legal ends of a race are told from the others where it happens; its caller sees one and
  /// the same.
  static outcome settle(edge& e, outcome undisturbed) {
    e.expected = undisturbed;
    return {ending::value, 0};
  }

  static outcome end_of(node& n, const tally& sum) {
    return n.throws ? raised(*n.throws, n.id) : outcome{ending::value, sum.so_far};
  }

  // Cancelled on its way from the guard to the target: every thread of coroutines in between.
  outcome target(node& n, coroutine_thread& in) {
    coroutine_thread* const base = bases_.at(&n);
    for (coroutine_thread* at = &in;; at = at->parent) {
      at->cancelled = true;
      if (at == base) break;
    }
    if (n.target >= target_kind::abandon) return aborted;
    switch (n.then) {
      case answer::give_up: return aborted;
      case answer::value: return {ending::value, n.id};
      case answer::raise: break;
    }
    return raised(*n.throws, n.id);
  }

  std::map<const node*, coroutine_thread*> bases_;  // for each target, what its guard cancels
};

}  // namespace bothworlds::testing::random_program
