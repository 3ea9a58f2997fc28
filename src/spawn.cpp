// SPDX-License-Identifier: BSL-1.0
#include "chain.hpp"
#include "context_values.hpp"
#include "hand_over.hpp"
#include "spawned.hpp"
#include "unhandled.hpp"
#include "wait_for_memory.hpp"

#include <bothworlds/detail/async_call.hpp>
#include <bothworlds/detail/continuation.hpp>
#include <bothworlds/detail/spawned_work.hpp>

#include <boost/asio/execution/outstanding_work.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/prefer.hpp>

#include <chrono>
#include <new>
#include <utility>

namespace bothworlds::detail {
namespace {

/// On somebody else's executor it is a call like any other, for which nobody waits.
class spawned_elsewhere final : public async_call {
public:
  spawned_elsewhere(std::unique_ptr<spawned_work> work, const asio::any_io_executor& home,
                    std::source_location where)
      : async_call(where),
        work_(std::move(work)),
        home_(asio::prefer(home, asio::execution::outstanding_work.tracked)) {
    awaited();
  }

  void invoke() override { work_->invoke(where()); }
  void await_from(coroutine_frame& host) override { work_->await_from(host); }
  void store() override { work_->store(); }
  void drop_operation() noexcept override { work_->drop_operation(); }
  void discard() noexcept override {}

  void complete() {
    if (failure()) work_->fails(failure());
    forget_failure();
    const asio::any_io_executor home = std::move(home_);
    detail::complete(std::move(work_), home);
  }

private:
  ~spawned_elsewhere() override = default;

  std::unique_ptr<spawned_work> work_;
  asio::any_io_executor home_;
};

void spawn_elsewhere(const asio::any_io_executor& executor, std::unique_ptr<spawned_work> work,
                     asio::cancellation_slot slot, std::source_location where) {
  const auto call = make_counted<spawned_elsewhere>(std::move(work), executor, where);
  if (slot.is_connected())
    slot.assign([call](asio::cancellation_type type) { call->request_cancel(type); });
  call->start_child(executor, current_snapshot(), nullptr,
                    std::chrono::steady_clock::time_point::max(),
                    continuation([call] { call->complete(); }));
}

/// What is posted; it owns the work unless posting it fails.
class telling {
public:
  explicit telling(spawned_work* work) noexcept : work_(work) {}
  telling(telling&&) noexcept = default;
  ~telling() {
    if (work_ && hand_over::fails(work_.get())) (void)work_.release();
  }
  void operator()() {
    spawned_work& subject = *work_;
    subject.tell(std::move(work_));
  }

private:
  std::unique_ptr<spawned_work> work_;
};

}  // namespace

spawned_work::~spawned_work() = default;

void complete(std::unique_ptr<spawned_work> work, const asio::any_io_executor& home) noexcept {
  const asio::any_io_executor executor = work->executor(home);
  for (;;) {
    hand_over current(work.get());
    try {
      asio::post(executor, telling(work.get()));
    } catch (const std::bad_alloc&) {
      if (current.failed) {
        wait_for_memory();
        continue;
      }
    } catch (...) {
      report_unhandled("the executor of a handler of spawn");
    }
    // Its executor has it, or has gone: then nobody is told.
    if (!current.failed) (void)work.release();
    return;
  }
}

void spawn_on(const asio::any_io_executor& executor, std::unique_ptr<spawned_work> work,
              asio::cancellation_slot slot, std::source_location where) {
  const ref_ptr<chain_node>* const above = find_node(executor);
  if (above && (*above)->own_loop())
    spawned::start(*above, std::move(work), slot, where);
  else
    spawn_elsewhere(executor, std::move(work), slot, where);
}

}  // namespace bothworlds::detail
