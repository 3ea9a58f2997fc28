// SPDX-License-Identifier: BSL-1.0
#include "thread_state.hpp"

#include "chain.hpp"
#include "lane.hpp"
#include "loop.hpp"
#include "thread_record.hpp"

#include <bothworlds/detail/asio_internals.hpp>
#include <bothworlds/detail/crossing.hpp>

#include <atomic>
#include <new>

#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace bothworlds::detail {
namespace {

std::atomic<bool> main_thread_has_ended{false};

// Constant initialised and trivially destroyed, so that a look at it is a plain load. Set by the
// first look of a thread; what it points to is `this_thread` below.
constinit thread_local thread_state* known_state = nullptr;

// Made again in place after fork(): what it owned belongs to threads that do not exist here, and
// its locks may be held by them for ever, so it is forgotten, not destroyed.
struct slot {
  slot() { new (storage) thread_state; }
  ~slot() {
    if (::syscall(SYS_gettid) == ::getpid())
      main_thread_has_ended.store(true, std::memory_order_relaxed);
    state().~thread_state();
  }
  thread_state& state() { return *std::launder(reinterpret_cast<thread_state*>(storage)); }

  alignas(thread_state) unsigned char storage[sizeof(thread_state)];
};

thread_local slot this_thread;

BOTHWORLDS_NOINLINE thread_state& make_thread_state() {
  thread_state& state = this_thread.state();
  known_state = &state;
  const std::uint32_t generation = fork_generation();
  if (state.fork_generation != generation) {
    loop* const driving = state.driving;
    may_block_scope* const blocking = state.blocking;
    value_cell* const values = state.values;
    const void* const values_loop = state.values_loop;
    value_cell own_values = std::move(state.own_values);
    new (this_thread.storage) thread_state;
    // The scopes on this stack are still to be left one by one; and values are nobody else's.
    this_thread.state().driving = driving;
    this_thread.state().blocking = blocking;
    this_thread.state().values = values;
    this_thread.state().values_loop = values_loop;
    this_thread.state().own_values.take(std::move(own_values));
    this_thread.state().fork_generation = generation;
  }
  return this_thread.state();
}

}  // namespace

BOTHWORLDS_NOINLINE thread_state& this_thread_state() {
  thread_state* const state = known_state;
  if (!state || state->fork_generation != fork_generation()) [[unlikely]]
    return make_thread_state();
  return *state;
}

BOTHWORLDS_NOINLINE stack_room room_on_stack() noexcept {
  struct bounds {
    const char* end = nullptr;
    std::size_t size = 0;
  };
  // Asked once for each thread: glibc reads /proc for the main one.
  thread_local const bounds mine = [] {
    pthread_attr_t attributes;
    void* lowest = nullptr;
    std::size_t size = 0;
    if (::pthread_getattr_np(::pthread_self(), &attributes) == 0) {
      ::pthread_attr_getstack(&attributes, &lowest, &size);
      ::pthread_attr_destroy(&attributes);
    }
    return bounds{static_cast<const char*>(lowest), size};
  }();
  const auto here = static_cast<const char*>(__builtin_frame_address(0));
  return {here > mine.end ? static_cast<std::size_t>(here - mine.end) : 0, mine.size};
}

bool process_is_ending() noexcept { return main_thread_has_ended.load(std::memory_order_relaxed); }

thread_state::~thread_state() {
  if (home) home->close();
  if (record) record->unlist();
}

may_block_scope::may_block_scope(crossing* call, thread_state& thread, const void* loop)
    : thread_(thread),
      outer_(thread_.blocking),
      call_(call     ? call
            : outer_ ? outer_->call()
                     : nullptr),
      loop_marker_(loop),
      driving_(std::exchange(thread_.driving, nullptr)),
      node_(thread_.node) {
  thread_record::stirs();
  thread_.blocking = this;
}

may_block_scope::~may_block_scope() {
  thread_.blocking = outer_;
  thread_.driving = driving_;
  thread_.node = node_;
}

cell_scope::cell_scope(value_cell* cell) noexcept
    : cell_scope(cell, this_thread_state(), innermost_running_loop()) {}

void cell_scope::adapt(const adapter_list& all, value_cell& cell) noexcept {
  step_.emplace(all, cell);
}
void cell_scope::end_step() noexcept { step_.reset(); }

node_scope::node_scope(const chain_node* node, thread_state& thread) noexcept
    : node_scope(node, node ? node->memory() : nullptr, thread) {}

node_scope::node_scope(const chain_node* node, loop_memory* memory, thread_state& thread) noexcept
    : memory_(memory),
      values_(node ? &node->values() : nullptr, thread,
              memory ? memory->marker() : innermost_running_loop()),
      thread_(thread),
      outer_(thread_.node) {
  thread_.node = node;
}

node_scope::~node_scope() { thread_.node = outer_; }

}  // namespace bothworlds::detail
