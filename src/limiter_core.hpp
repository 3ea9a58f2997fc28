// SPDX-License-Identifier: BSL-1.0
//
// The machinery of a capacity_limiter: who holds a token, and who waits for one.
//
// A token object is made with its call, before anything is queued; waiting and holding only link
// it, so neither can fail. It is held as long as somebody uses it: the call that took it, and the
// calls below that one, which find it through their chain (chain_place::token) and join it. mutex_
// guards all of it and is never held over anything but these lists. Who gives a token back is told
// which call gets it next, and hands that call on itself (crossing::grant) once its own result is
// on its way: waiting for a token takes no thread, and giving one back needs none.
//
// The core outlives the limiter for as long as a call, or a wrapper, refers to it.
#pragma once

#include "process_mark.hpp"

#include <bothworlds/capacity_limiter.hpp>
#include <bothworlds/detail/crossing.hpp>
#include <bothworlds/error.hpp>

#include <boost/intrusive/list.hpp>

#include <atomic>
#include <mutex>

namespace bothworlds::detail {

/// One token, or the wish for one. A call owns it, and the places of the calls below; those keep it
/// from going, but not from being given back.
class limiter_token final : public ref_counted {
public:
  /// `above`: the innermost token of the chain, held or not; null: none.
  limiter_token(ref_ptr<limiter_core> of, const crossing& taker,
                ref_ptr<limiter_token> above) noexcept;

  /// False: it was given back. Exact only under the limiter's mutex.
  bool held() const noexcept { return users_.load(std::memory_order_acquire) != 0; }
  const ref_ptr<limiter_token>& above() const noexcept { return above_; }

private:
  friend class limiter_core;
  friend class stall_finder;
  friend class wait_graph;

  ~limiter_token() override;

  const ref_ptr<limiter_core> limiter_;
  const ref_ptr<limiter_token> above_;  // the nearest of the chain that was held when this was made
  const char* const name_;
  const std::source_location where_;
  // The limiter's mutex for all that follows.
  boost::intrusive::list_member_hook<> hook_;  // in queue_ or borrowed_
  ref_ptr<crossing> waiting_;                  // who waits for it; null: nobody
  std::int64_t since_ = 0;                     // queued, later held, since
  std::atomic<std::size_t> users_{0};          // anybody may look
};

class limiter_core final : public ref_counted {
public:
  explicit limiter_core(std::size_t limit) noexcept;

  /// Takes a token for `call`: true, and `token` is the one it holds, its own or that of a call
  /// above. False: the call waits in the queue until crossing::grant. Throws what keeps it from
  /// ever getting one.
  static bool acquire(ref_ptr<limiter_token>& token, crossing& call);
  /// The call that used `token` has ended, or never will run; that it waited or used it at all is
  /// found out here. Returns the call that holds the token from now on; null: nobody waits for it.
  static ref_ptr<crossing> release(limiter_token& token) noexcept;

  void resize(std::size_t limit);
  /// There is no limiter any more.
  void orphaned() noexcept;
  capacity_limiter_stats stats() const;

private:
  friend class stall_finder;
  friend class wait_graph;
  using token_list = boost::intrusive::list<
      limiter_token,
      boost::intrusive::member_hook<limiter_token, boost::intrusive::list_member_hook<>,
                                    &limiter_token::hook_>>;

  ~limiter_core() override;
  // With mutex_ locked.
  void wait_for_token(limiter_token& token, crossing& call) noexcept;
  ref_ptr<crossing> stop_waiting(limiter_token& token) noexcept;
  void lend(limiter_token& token) noexcept;
  ref_ptr<crossing> pass_on() noexcept;

  // Without: in a forked child another thread may have held it for ever.
  bool of_another_process() const noexcept;
  void check_process(std::source_location where) const;
  static error no_tokens_ever(std::source_location where);

  const process_mark process_;
  mutable std::mutex mutex_;
  std::size_t limit_;    // mutex_, and all that follows
  token_list borrowed_;  // the oldest first
  token_list queue_;     // likewise
  bool orphaned_ = false;
};

}  // namespace bothworlds::detail
