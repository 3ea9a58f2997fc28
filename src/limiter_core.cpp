// SPDX-License-Identifier: BSL-1.0
#include "limiter_core.hpp"

#include "describe.hpp"
#include "exception_from.hpp"
#include "resources.hpp"
#include "thread_state.hpp"
#include "worker_pool_core.hpp"

#include <bothworlds/error.hpp>

#include <utility>

namespace bothworlds {

capacity_limiter::capacity_limiter(std::size_t limit) : core_(new detail::limiter_core(limit)) {}

capacity_limiter::~capacity_limiter() { core_->orphaned(); }

void capacity_limiter::resize(std::size_t limit) { core_->resize(limit); }

capacity_limiter_stats capacity_limiter::stats() const { return core_->stats(); }

namespace detail {
namespace {

// What was given back is skipped, so that tasks which outlive their calls do not grow a chain
// without end.
ref_ptr<limiter_token> nearest_held(ref_ptr<limiter_token> token) noexcept {
  while (token && !token->held()) token = token->above();
  return token;
}

}  // namespace

const ref_ptr<limiter_core>& core_of(const capacity_limiter& limiter) noexcept {
  return limiter.core_;
}

limiter_token::limiter_token(ref_ptr<limiter_core> of, const crossing& taker,
                             ref_ptr<limiter_token> above) noexcept
    : limiter_(std::move(of)),
      above_(nearest_held(std::move(above))),
      name_(taker.name()),
      where_(taker.where()) {}

limiter_token::~limiter_token() = default;

limiter_core::limiter_core(std::size_t limit) noexcept : limit_(limit) { list_resource(*this); }

limiter_core::~limiter_core() { unlist_resource(*this); }

bool limiter_core::of_another_process() const noexcept { return process_.is_of_parent(); }

void limiter_core::check_process(std::source_location where) const {
  if (of_another_process())
    throw error(errc::forked_child, where,
                "this capacity limiter was made before fork(), in the parent",
                "  why  its tokens may be held by threads that do not exist here\n"
                "  fix  make a limiter in the child\n");
}

error limiter_core::no_tokens_ever(std::source_location where) {
  return error(errc::pool_closed, where, "the capacity limiter was destroyed while its limit was 0",
               "  why  nobody can raise the limit any more: the call would wait for ever\n"
               "  fix  keep the limiter until its last call has ended\n");
}

bool limiter_core::acquire(ref_ptr<limiter_token>& token, crossing& call) {
  const ref_ptr<limiter_core> self = token->limiter_;
  self->check_process(call.where());
  const std::lock_guard lock(self->mutex_);
  for (ref_ptr<limiter_token> above = token->above_; above; above = above->above_)
    if (above->limiter_ == self && above->held()) {
      above->users_.fetch_add(1, std::memory_order_relaxed);
      token = std::move(above);
      return true;
    }
  if (self->orphaned_ && self->limit_ == 0) throw no_tokens_ever(call.where());
  if (self->queue_.empty() && self->borrowed_.size() < self->limit_) {
    self->lend(*token);
    return true;
  }
  self->wait_for_token(*token, call);
  return false;
}

// The one place where a call begins to wait for a token; it ends in pass_on(), release() or
// orphaned().
void limiter_core::wait_for_token(limiter_token& token, crossing& call) noexcept {
  token.waiting_ = &call;
  token.since_ = coarse_now();
  queue_.push_back(token);
}

void limiter_core::lend(limiter_token& token) noexcept {
  token.users_.store(1, std::memory_order_release);
  token.since_ = coarse_now();
  borrowed_.push_back(token);
}

ref_ptr<crossing> limiter_core::release(limiter_token& token) noexcept {
  limiter_core& self = *token.limiter_;
  if (self.of_another_process()) return nullptr;
  ref_ptr<crossing> waited;  // let go without the lock
  const std::lock_guard lock(self.mutex_);
  if (token.waiting_) {
    waited = self.stop_waiting(token);
    return nullptr;
  }
  if (!token.held() || token.users_.fetch_sub(1, std::memory_order_acq_rel) != 1) return nullptr;
  self.borrowed_.erase(self.borrowed_.iterator_to(token));
  return self.pass_on();
}

ref_ptr<crossing> limiter_core::stop_waiting(limiter_token& token) noexcept {
  queue_.erase(queue_.iterator_to(token));
  return std::move(token.waiting_);
}

ref_ptr<crossing> limiter_core::pass_on() noexcept {
  if (queue_.empty() || borrowed_.size() >= limit_) return nullptr;
  limiter_token& first = queue_.front();
  ref_ptr<crossing> next = stop_waiting(first);
  lend(first);
  return next;
}

void limiter_core::resize(std::size_t limit) {
  check_process(std::source_location::current());
  {
    const std::lock_guard lock(mutex_);
    limit_ = limit;
  }
  for (;;) {
    ref_ptr<crossing> next;
    {
      const std::lock_guard lock(mutex_);
      next = pass_on();
    }
    if (!next) return;
    crossing::grant(std::move(next));
  }
}

void limiter_core::orphaned() noexcept {
  if (of_another_process()) return;
  {
    const std::lock_guard lock(mutex_);
    orphaned_ = true;
  }
  for (;;) {
    ref_ptr<crossing> stranded;
    {
      const std::lock_guard lock(mutex_);
      if (limit_ != 0 || queue_.empty()) return;
      stranded = stop_waiting(queue_.front());
    }
    if (!stranded->try_claim()) continue;
    std::exception_ptr why = exception_from([&] { return no_tokens_ever(stranded->where()); });
    stranded.detach()->refuse(std::move(why));
  }
}

capacity_limiter_stats limiter_core::stats() const {
  capacity_limiter_stats stats;
  check_process(std::source_location::current());
  const std::lock_guard lock(mutex_);
  const std::int64_t now = coarse_now();
  stats.limit = limit_;
  stats.borrowed = borrowed_.size();
  stats.queued = queue_.size();
  if (!queue_.empty()) stats.oldest_queued = age(queue_.front().since_, now);
  stats.borrowers.reserve(stats.borrowed);
  for (const limiter_token& token : borrowed_)
    stats.borrowers.push_back(
        {token.name_ ? token.name_ : describe(token.where_), token.where_, age(token.since_, now)});
  return stats;
}

}  // namespace detail
}  // namespace bothworlds
