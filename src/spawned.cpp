// SPDX-License-Identifier: BSL-1.0
#include "spawned.hpp"

#include "aborted.hpp"
#include "context_values.hpp"
#include "exception_from.hpp"
#include "loop.hpp"
#include "task_core.hpp"
#include "thread_state.hpp"
#include "unhandled.hpp"
#include "wait_for_memory.hpp"

#include <bothworlds/detail/continuation.hpp>
#include <bothworlds/error.hpp>

#include <utility>

namespace bothworlds::detail {

/// Held by the handler's slot, which may outlive the coroutine by far: it knows that only while it runs.
class spawned::cancellation final : public ref_counted, private loop_op {
public:
  explicit cancellation(ref_ptr<loop> on) noexcept : loop_(std::move(on)) {}

  /// Any thread.
  void request(asio::cancellation_type type) noexcept {
    types_.fetch_or(static_cast<unsigned>(type), std::memory_order_acq_rel);
    if (queued_.exchange(true, std::memory_order_acq_rel)) return;
    intrusive_ptr_add_ref(this);
    if (!loop_->push(*this)) intrusive_ptr_release(this);
  }
  bool is_requested() const noexcept { return types_.load(std::memory_order_acquire) != 0; }

  // The loop.
  void begins(spawned& subject) noexcept { subject_ = &subject; }
  void ends() noexcept { subject_ = nullptr; }
  asio::cancellation_slot slot() noexcept { return signal_.slot(); }

private:
  void take_turn(bool deliver) noexcept override {
    const ref_ptr<cancellation> self(this, false);
    // An exchange, so that who still found it set has added its types before they are taken.
    queued_.exchange(false, std::memory_order_acq_rel);
    if (deliver && subject_) emit();
  }

  // What handles it is code of the coroutine.
  void emit() noexcept {
    const unsigned types = types_.exchange(0, std::memory_order_acq_rel);
    if (types == 0) return;
    const auto handle = [this, type = static_cast<asio::cancellation_type>(types)] {
      signal_.emit(type);
    };
    loop_->execute(*subject_, continuation(handle), true);
  }

  const ref_ptr<loop> loop_;
  std::atomic<unsigned> types_{0};  // any thread adds; the loop takes
  std::atomic<bool> queued_{false};
  spawned* subject_ = nullptr;        // the loop; null: it has not begun, or has ended
  asio::cancellation_signal signal_;  // the loop
};

spawned::spawned(const ref_ptr<chain_node>& above, std::unique_ptr<spawned_work> work,
                 std::source_location where)
    : chain_node(above->own_loop()),
      home_(above),
      work_(std::move(work)),
      place_(above->place_of_spawned()),
      where_(where) {}

spawned::~spawned() = default;

void spawned::start(const ref_ptr<chain_node>& above, std::unique_ptr<spawned_work> work,
                    asio::cancellation_slot slot, std::source_location where) {
  auto started = make_counted<spawned>(above, std::move(work), where);
  if (slot.is_connected()) {
    started->cancellation_ = make_counted<cancellation>(above->own_loop());
    slot.assign([to = started->cancellation_](asio::cancellation_type type) { to->request(type); });
  }
  value_cell values;
  values.begin(current_snapshot());
  started->open(std::move(values));
  above->work_started();  // until complete()
  loop& on = *above->own_loop();
  loop_op* const queued = started.detach();
  if (!on.push(*queued)) queued->take_turn(false);
}

ref_ptr<task_scope> spawned::tasks(std::source_location) { return nullptr; }

void spawned::take_turn(bool deliver) noexcept {
  const ref_ptr<spawned> self(this, false);
  if (deliver) return begin();
  work_->fails(exception_from([this] {
    return error(errc::loop_stopped, where_, "the loop that was to run this has ended",
                 "  fix  let the loop live until the coroutines that run on it have ended\n");
  }));
  complete();
}

void spawned::begin() noexcept {
  if (cancellation_ && cancellation_->is_requested()) {
    work_->fails(operation_aborted());
    return complete();
  }
  const node_scope scope(this, this_thread_state());
  intrusive_ptr_add_ref(this);  // the frame's
  bottom_promise& bottom = create<&spawned::operation_ended, &spawned::gone>();
  if (cancellation_) cancellation_->begins(*this);
  coroutine_thread stack(
      thread_on(bottom, chain_executor(ref_ptr<chain_node>(this)),
                cancellation_ ? cancellation_->slot() : asio::cancellation_slot()));
  bottom.attach_thread(&stack);
  try {
    stack.reset_cancellation_state();
    stack.throw_if_cancelled(true);
    work_->invoke(where_);
    work_->await_from(bottom);
  } catch (...) {
    work_->fails(std::current_exception());
  }
  try {
    stack.launch();
  } catch (...) {
    // Memory ran out in the operation that it began. Asio drops the coroutine, by way of the queue.
    if (work_) work_->fails(std::current_exception());
  }
}

void spawned::operation_ended() noexcept {
  if (!work_->has_failed()) try {
      work_->store();
    } catch (...) {
      work_->fails(std::current_exception());
    }
  if (own_loop()->turns_here()) return end();
  // It has hopped to another executor's thread and stayed there.
  resume_with<&spawned::end>();
  continuation on_the_loop(coroutine_resumption{promise().suspend()});
  with_memory([&] { own_loop()->execute(*this, std::move(on_the_loop), false); });
}

void spawned::end() noexcept {
  complete();
  promise().ends();
}

void spawned::gone() noexcept {
  if (work_) {
    work_->drop_operation();
    if (!work_->has_failed())
      work_->fails(exception_from([this] {
        return error(errc::loop_stopped, where_,
                     "the spawned coroutine was destroyed before it ended",
                     "  why  its loop was destroyed\n"
                     "  fix  let the loop live until the coroutines that run on it have ended\n");
      }));
    complete();
  }
  intrusive_ptr_release(this);
}

// Nothing of the coroutine but its own frame is left.
void spawned::complete() noexcept {
  if (cancellation_) cancellation_->ends();
  const value_cell values = close().end();
  if (own_loop()->is_of_parent_process()) {
    // Whom it would tell is in the parent. The handler may hold what is the parent's, too.
    (void)work_.release();
    return;
  }
  // Not kept by what is kept of this: a coroutine that spawns its successor would be kept by that.
  const ref_ptr<chain_node> home = std::move(home_);
  detail::complete(std::move(work_), chain_executor(home));
  home->work_finished();
  if (debug_mode() && unfinished() != 0 && own_loop()->turns_here())
    own_loop()->keep_leftovers_of(*this);
}

void spawned::tell_leftovers() const noexcept {
  if (unfinished() == 0) return;
  report_misuse(where_, "a spawned coroutine has ended and left work behind on its loop",
                "  why  a coroutine of a bare asio::co_spawn, or an operation, has not ended; it "
                "goes on when\n"
                "       this thread drives its loop again, if it does\n"
                "  fix  wait for it, or make it a task: with_task_group or create_task\n");
}

}  // namespace bothworlds::detail
