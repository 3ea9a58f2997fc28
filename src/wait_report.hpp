// SPDX-License-Identifier: BSL-1.0
//
// What a wait_report holds, and how it is written: as text, as JSON and as a Graphviz graph.
#pragma once

#include <bothworlds/deadlock.hpp>

#include <cstdint>
#include <source_location>
#include <string>
#include <vector>

namespace bothworlds::detail {

/// A place where somebody waits, or what is waited for.
struct reported_node {
  enum class kind : unsigned char { thread, blocked_call, crossing, lane, pool, limiter, loop };

  kind what;
  std::string title;  // "thread 'bothworlds-1' (4711)", "sync_to_async at a.cpp:12", …
  std::chrono::milliseconds age{0};  // how long it has waited; 0: it does not wait, or not known
  int kernel_id = 0;                 // of a thread
  bool stuck = false;                // nothing can end its wait
  bool in_cycle = false;
  std::vector<std::size_t> waits_for;
};

struct wait_report_data {
  wait_report::kind what = wait_report::kind::snapshot;
  unsigned number = 0;
  std::string summary;
  std::vector<reported_node> nodes;
  std::vector<std::size_t>
      cycle;  // of a deadlock: from a thread to the one that holds what it needs
  std::size_t refused = no_node;  // of a deadlock: the youngest wait
  std::string fix;

  static constexpr std::size_t no_node = static_cast<std::size_t>(-1);
};

/// What leads from one node to the next: "waits in", "queued for", "held by", …
const char* edge_label(reported_node::kind from, reported_node::kind to) noexcept;

std::string to_text(const wait_report_data& report);
std::string to_json(const wait_report_data& report);
std::string to_dot(const wait_report_data& report);

}  // namespace bothworlds::detail
