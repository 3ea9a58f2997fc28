// SPDX-License-Identifier: BSL-1.0
#include "call_node.hpp"

#include "loop.hpp"

namespace bothworlds::detail {

call_node::call_node(ref_ptr<loop> own, std::unique_ptr<loop_memory> memory) noexcept
    : chain_node(std::move(own)), memory_(std::move(memory)) {}

call_node::~call_node() = default;

foreign_node::foreign_node(const ref_ptr<foreign_context>& context,
                           const asio::any_io_executor& inner)
    : call_node(nullptr), executor_(context, inner) {}

foreign_node::~foreign_node() = default;

ref_ptr<const shared_place> call_node::place_of_spawned() {
  const bool drives = own_loop()->turns_here();
  if (drives && place_of_spawned_) return place_of_spawned_;
  ref_ptr<const shared_place> made =
      make_counted<shared_place>(chain_place::below(ref_ptr<chain_node>(this)));
  // A late one stays alone: nobody would let go of what it leads to.
  if (drives && is_open()) place_of_spawned_ = made;
  return made;
}

ref_ptr<task_scope> call_node::tasks(std::source_location where) {
  if (!tasks_ && hosts_tasks_) tasks_ = make_counted<task_scope>(task_scope::kind::call, where);
  return tasks_;
}

}  // namespace bothworlds::detail
