// SPDX-License-Identifier: BSL-1.0
//
// Nodes that block, and what they call.
#pragma once

#include "random_program/interpreter.hpp"

#include <bothworlds/async_to_sync.hpp>

#include <boost/thread/thread.hpp>

#include <functional>
#include <stop_token>

namespace bothworlds::testing::random_program {

inline std::uint64_t interpreter::blocking(node& n, place at, const std::stop_token* stop) {
  const running_scope running(*this);
  note(n);
  const long here = kernel_thread_id();
  check_thread(n, at, here);
  if (n.target != target_kind::none) return blocked_target(n, at, stop, here);
  if (stop && !n.racing) expect(!stop->stop_requested(), n, "was asked to stop");
  if (n.has_interruption_point) {
    try {
      boost::this_thread::interruption_point();
    } catch (const boost::thread_interrupted&) {
      violation(n, "got somebody else's interruption");
    }
  }
  if (n.throws_first) raise(*n.throws, n.id);
  const blocked_thread blocked{here, at.above};
  place below = at;
  below.above = &blocked;
  std::uint64_t sum = n.id;
  for (auto& e : n.children)
    for (int i = 0; i < e->calls; ++i) {
      std::exception_ptr failure;
      std::uint64_t value = 0;
      try {
        value = call_from_blocking(*e, below);
      } catch (...) {
        failure = std::current_exception();
      }
      expect(kernel_thread_id() == here, n, "has changed its thread");
      sum = take(*e, sum, failure, value);
    }
  if (n.throws) raise(*n.throws, n.id);
  return sum;
}

inline std::uint64_t interpreter::blocked_target(node& n, place at, const std::stop_token* stop,
                                                 long here) {
  if (n.target >= target_kind::abandon && n.runs_on == place_kind::pool) {
    ++abandoned_at_most_;
    if (n.target == target_kind::left_behind) ++left_behind_;
  }
  at.cancels->fire();
  bool interrupted = false;
  if (stop) {
    gate asked;
    const std::stop_callback on_stop(*stop, [&] { asked.open(); });
    asked.wait();
  } else {
    n.release.wait();
  }
  switch (n.target) {
    case target_kind::left_behind: return n.id;
    case target_kind::abandon: raise(ending::aborted, n.id);
    case target_kind::interruptor:
      expect(n.interruptions == 1, n, "its interruptor was not called once");
      if (n.then != answer::give_up) break;
      try {
        boost::this_thread::interruption_point();
      } catch (const boost::thread_interrupted&) {
        interrupted = true;
      }
      expect(interrupted == is_of_library(here), n,
             "is interrupted on a user's thread, or not on one of the library's");
      break;
    default: break;
  }
  if (n.then == answer::value) return n.id;
  if (n.then == answer::raise) raise(*n.throws, n.id);
  if (interrupted) throw boost::thread_interrupted();
  raise(ending::aborted, n.id);
}

inline std::uint64_t interpreter::call_from_blocking(edge& e, place below) {
  node& n = *e.child;
  if (n.blocking && n.runs_on == place_kind::inline_in_parent) return blocking(n, below, nullptr);
  async_options options{.force_new_loop = e.force_new_loop};
  std::stop_source source;
  const trigger cancels{[&] {
    std::stop_source own = source;
    own.request_stop();
  }};
  if (e.guard == guard_kind::stop_token) {
    options.stop = source.get_token();
    below.cancels = &cancels;
  }
  if (e.guard == guard_kind::timeout) options.timeout = e.patience;

  loop_place fresh;
  if (!below.loop || e.force_new_loop) {
    fresh.owner = below.above->thread;
    below.loop = &fresh;
  } else if (!below.loop->serial) {
    fresh.what = below.loop->what;
    fresh.threads = below.loop->threads;
    fresh.context = below.loop->context;
    below.loop = &fresh;
  }
  std::exception_ptr failure;
  std::uint64_t value = 0;
  try {
    value = block_on(e, below, options);
  } catch (...) {
    failure = std::current_exception();
  }
  if (e.target) e.target->release.open();
  if (e.guard == guard_kind::timeout) return judge_race(e, failure, value, ending::timed_out);
  if (failure) std::rethrow_exception(failure);
  return value;
}

inline std::uint64_t interpreter::block_on(edge& e, place below, const async_options& options) {
  node& n = *e.child;
  if (n.blocking) return async_to_sync([&] { return await_child(e, below); }, options)();
  counted argument(n.id);
  const instance alive;
  switch (n.result) {
    case result_kind::object: {
      const auto call = async_to_sync(&interpreter::coroutine_object, options);
      return call(this, std::ref(n), below, std::move(argument)).value();
    }
    case result_kind::nothing: {
      std::uint64_t result = 0;
      const auto call = async_to_sync(&interpreter::coroutine_nothing, options);
      call(this, std::ref(n), below, std::move(argument), &result);
      return result;
    }
    default: {
      const auto call =
          async_to_sync([this, &n, below,
                         alive](counted passed) { return coroutine(n, below, std::move(passed)); },
                        options);
      return call(std::move(argument));
    }
  }
}

}  // namespace bothworlds::testing::random_program
