// SPDX-License-Identifier: BSL-1.0
#include "load.hpp"

#include "http_client.hpp"
#include "in_parallel.hpp"

#include <boost/asio/steady_timer.hpp>

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace demo {

namespace {

using clock = std::chrono::steady_clock;

/// Somebody who asks for the same pages over and over.
struct visitor {
  page_figures& figures;
  std::vector<std::string> targets;
  std::size_t next;
};

/// One request and its entry in the figures; false if the server was not there.
asio::awaitable<bool> visit(http_client& client, page_figures& figures, std::string target) {
  const auto sent = clock::now();
  try {
    const auto answer = co_await client.get(std::move(target));
    if (answer.status == http::status::ok)
      figures.latencies.add(clock::now() - sent);
    else
      ++figures.failures;
    co_return true;
  } catch (const boost::system::system_error&) {
    ++figures.failures;
  }
  co_return false;
}

asio::awaitable<void> keep_visiting(visitor& self, asio::ip::tcp::endpoint server,
                                    clock::time_point end) {
  auto executor = co_await asio::this_coro::executor;
  asio::steady_timer pause(executor);
  http_client client(executor, server);
  while (clock::now() < end) {
    const auto& target = self.targets[self.next++ % self.targets.size()];
    const bool reached = co_await visit(client, self.figures, target);
    if (reached) continue;
    pause.expires_after(std::chrono::milliseconds(50));
    co_await pause.async_wait(asio::use_awaitable);
  }
}

}  // namespace

asio::awaitable<load_figures> put_under_load(load_plan plan) {
  load_figures figures;
  std::vector<std::string> files;
  for (const auto& name : plan.names) files.push_back("/file?name=" + percent_encode(name));

  std::vector<visitor> visitors;
  for (int i = 0; i < 2; ++i) visitors.push_back({figures.check, {"/check"}, 0});
  for (std::size_t i = 0; i < 2 && !files.empty(); ++i)
    visitors.push_back({figures.file, files, i * files.size() / 2});
  visitors.push_back({figures.work, {"/work/6"}, 0});

  const auto begin = clock::now();
  const auto end = begin + std::chrono::duration_cast<clock::duration>(plan.seconds);
  auto visit_pages = [&](std::size_t i) { return keep_visiting(visitors[i], plan.server, end); };
  co_await in_parallel(visitors.size(), visit_pages);
  figures.elapsed = clock::now() - begin;
  co_return figures;
}

}  // namespace demo
