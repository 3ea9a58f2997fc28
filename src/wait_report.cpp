// SPDX-License-Identifier: BSL-1.0
#include "wait_report.hpp"

#include "describe.hpp"

#include <cstdio>
#include <utility>

namespace bothworlds {
namespace detail {
namespace {

using kind = reported_node::kind;

std::string with_age(const reported_node& node) {
  return node.age.count() == 0 ? node.title : node.title + ", for " + in_seconds(node.age);
}

const char* name_of(kind what) noexcept {
  switch (what) {
    case kind::thread: return "thread";
    case kind::blocked_call: return "async_to_sync";
    case kind::crossing: return "sync_to_async";
    case kind::lane: return "lane";
    case kind::pool: return "pool";
    case kind::limiter: return "limiter";
    case kind::loop: return "loop";
  }
  return "";
}

const char* name_of(wait_report::kind what) noexcept {
  switch (what) {
    case wait_report::kind::snapshot: return "snapshot";
    case wait_report::kind::deadlock: return "deadlock";
    case wait_report::kind::stall: return "stall";
    case wait_report::kind::stall_over: return "stall_over";
  }
  return "";
}

// For a JSON string and for a quoted name in DOT alike.
std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      (result += '\\') += c;
    } else if (c == '\n') {
      result += "\\n";
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char code[8];
      std::snprintf(code, sizeof code, "\\u%04x", static_cast<unsigned>(c));
      result += code;
    } else {
      result += c;
    }
  }
  return result += '"';
}

void add_line(std::string& text, std::size_t indent, const std::string& label,
              const std::string& what) {
  text.append(indent, ' ');
  if (!label.empty()) {
    text += label;
    text.append(label.size() < 11 ? 12 - label.size() : 1, ' ');
  }
  text += what;
  text += '\n';
}

/// One node and the edge that leads to it; a thread starts a paragraph of its own.
void add_step(std::string& text, const wait_report_data& report, const reported_node* from,
              std::size_t to) {
  const reported_node& node = report.nodes[to];
  const bool heading = node.what == kind::thread;
  const char* label = from ? edge_label(from->what, node.what) : "";
  if (heading && from) add_line(text, 4, label, node.title);
  add_line(text, heading ? 2 : 4, heading ? "" : label, with_age(node));
}

void add_cycle(std::string& text, const wait_report_data& report) {
  const reported_node* from = nullptr;
  for (const std::size_t step : report.cycle) {
    add_step(text, report, from, step);
    from = &report.nodes[step];
  }
  const reported_node& first = report.nodes[report.cycle.front()];
  add_line(text, 4, edge_label(from->what, first.what), first.title + ", where this began");
}

void add_others(std::string& text, const wait_report_data& report) {
  for (const reported_node& node : report.nodes) {
    if (node.in_cycle || node.what != kind::thread) continue;
    const reported_node* from = &node;
    add_line(text, 2, "", node.title + (node.stuck ? ", behind the deadlock" : ""));
    // One path is enough to see where it hangs; all edges are in the JSON and in the graph.
    for (std::size_t length = 0; !from->waits_for.empty() && length < report.nodes.size();
         ++length) {
      const reported_node& next = report.nodes[from->waits_for.front()];
      add_line(text, 4, edge_label(from->what, next.what), with_age(next));
      if (next.what == kind::thread) break;
      from = &next;
    }
  }
}

// The first node is the call that waits, the second what it waits for, the others are what holds
// that.
void add_stalled(std::string& text, const wait_report_data& report) {
  for (std::size_t id = 1; id < report.nodes.size(); ++id)
    add_line(text, 4, edge_label(report.nodes[id == 1 ? 0 : 1].what, report.nodes[id].what),
             with_age(report.nodes[id]));
}

}  // namespace

const char* edge_label(kind from, kind to) noexcept {
  switch (from) {
    case kind::thread: return "waits in";
    case kind::blocked_call: return to == kind::loop ? "run by" : "for";
    case kind::crossing: return to == kind::thread ? "running on" : "queued for";
    case kind::lane:
    case kind::pool:
    case kind::limiter: return "held by";
    case kind::loop: return "turned by";
  }
  return "";
}

std::string to_text(const wait_report_data& report) {
  std::string text = "bothworlds: " + report.summary + "\n";
  if (!report.cycle.empty()) add_cycle(text, report);
  if (report.what == wait_report::kind::stall)
    add_stalled(text, report);
  else
    add_others(text, report);
  if (report.refused != wait_report_data::no_node)
    add_line(text, 2, "refused", report.nodes[report.refused].title + ", the youngest wait");
  if (!report.fix.empty()) add_line(text, 2, "fix", report.fix);
  return text;
}

std::string to_json(const wait_report_data& report) {
  std::string json = "{\"kind\":" + quoted(name_of(report.what)) +
                     ",\"number\":" + std::to_string(report.number) +
                     ",\"summary\":" + quoted(report.summary) + ",\"nodes\":[";
  for (std::size_t id = 0; id < report.nodes.size(); ++id) {
    const reported_node& node = report.nodes[id];
    if (id != 0) json += ',';
    json += "{\"id\":" + std::to_string(id) + ",\"kind\":" + quoted(name_of(node.what)) +
            ",\"title\":" + quoted(node.title) + ",\"age_ms\":" + std::to_string(node.age.count());
    if (node.kernel_id != 0) json += ",\"kernel_id\":" + std::to_string(node.kernel_id);
    json += std::string(",\"stuck\":") + (node.stuck ? "true" : "false") +
            ",\"in_cycle\":" + (node.in_cycle ? "true" : "false") + "}";
  }
  json += "],\"edges\":[";
  bool first = true;
  for (std::size_t id = 0; id < report.nodes.size(); ++id)
    for (const std::size_t to : report.nodes[id].waits_for) {
      if (!std::exchange(first, false)) json += ',';
      json += "{\"from\":" + std::to_string(id) + ",\"to\":" + std::to_string(to) +
              ",\"label\":" + quoted(edge_label(report.nodes[id].what, report.nodes[to].what)) +
              "}";
    }
  json += "]";
  if (report.refused != wait_report_data::no_node)
    json += ",\"refused\":" + std::to_string(report.refused);
  if (!report.fix.empty()) json += ",\"fix\":" + quoted(report.fix);
  return json + "}\n";
}

std::string to_dot(const wait_report_data& report) {
  std::string dot = "digraph waits {\n  label=" + quoted(report.summary) + "\n";
  for (std::size_t id = 0; id < report.nodes.size(); ++id) {
    const reported_node& node = report.nodes[id];
    dot += "  n" + std::to_string(id) + " [label=" + quoted(with_age(node)) +
           (node.what == kind::thread ? ", shape=box" : "") + (node.in_cycle ? ", color=red" : "") +
           "]\n";
    for (const std::size_t to : node.waits_for)
      dot += "  n" + std::to_string(id) + " -> n" + std::to_string(to) +
             " [label=" + quoted(edge_label(node.what, report.nodes[to].what)) + "]\n";
  }
  return dot + "}\n";
}

}  // namespace detail

wait_report::wait_report(std::shared_ptr<const detail::wait_report_data> data) noexcept
    : data_(std::move(data)) {}

wait_report::kind wait_report::what() const noexcept { return data_->what; }
unsigned wait_report::number() const noexcept { return data_->number; }

std::string wait_report::to_string(report_format format) const {
  switch (format) {
    case report_format::json: return detail::to_json(*data_);
    case report_format::dot: return detail::to_dot(*data_);
    case report_format::text: break;
  }
  return detail::to_text(*data_);
}

namespace {

// Without the first words, which error::report() writes itself.
std::string advice_of(const wait_report& waits) {
  const std::string text = waits.to_string();
  return text.substr(text.find('\n') + 1);
}

}  // namespace

deadlock_error::deadlock_error(std::source_location where, const wait_report& waits)
    : error(errc::would_deadlock, where,
            "this call is the youngest wait of deadlock " + std::to_string(waits.number()),
            advice_of(waits)),
      waits_(std::make_shared<const wait_report>(waits)) {}

deadlock_error::deadlock_error(const deadlock_error&) noexcept = default;
deadlock_error::~deadlock_error() = default;

std::string deadlock_error::report(report_format format) const {
  return format == report_format::text ? report() : waits_->to_string(format);
}

}  // namespace bothworlds
