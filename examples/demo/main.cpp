// SPDX-License-Identifier: BSL-1.0
//
// The demo. A plain, blocking main() that calls coroutines through async_to_sync; the coroutines
// call blocking code, SQLite and sorts, through sync_to_async.
//
//   options          the command line
//   read_tree        blocking: walks directories and reads files
//   file_index       blocking: the rows, on sqlite
//   indexer          the coroutines that fill the index, with many files in flight
//   site             the three pages
//   http_server      the loop that serves them
//   load             the clients, on http_client
//   measurements     what they saw, and the table
//   in_parallel      several coroutines at once
//   interruptible    Ctrl-C, as an exception in a coroutine
#include "http_server.hpp"
#include "indexer.hpp"
#include "interruptible.hpp"
#include "load.hpp"
#include "measurements.hpp"
#include "options.hpp"
#include "progress_bar.hpp"
#include "temporary_directory.hpp"

#include <bothworlds/async_to_sync.hpp>

#include <chrono>
#include <exception>
#include <filesystem>
#include <functional>
#include <iostream>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace {

using bothworlds::async_to_sync;
using namespace demo;

void print_skipped(const std::vector<skipped_path>& skipped) {
  if (skipped.empty()) return;
  constexpr std::size_t shown = 5;
  std::cout << "Skipped, because unreadable: " << skipped.size() << '\n';
  for (std::size_t i = 0; i < skipped.size() && i < shown; ++i)
    std::cout << "  " << skipped[i].path << ": " << skipped[i].reason << '\n';
  if (skipped.size() > shown) std::cout << "  …\n";
}

asio::awaitable<void> index_and_show(const options& wanted, const std::filesystem::path& database,
                                     index_progress& progress) {
  return interruptible(
      alongside(index_tree(wanted.directory, database, progress), show_progress(progress)));
}

index_figures index(const options& wanted, const std::filesystem::path& database) {
  std::cout << "Indexing " << wanted.directory.string() << std::endl;
  const auto begin = std::chrono::steady_clock::now();
  index_progress progress;
  async_to_sync(index_and_show)(std::ref(wanted), std::ref(database), std::ref(progress));

  index_figures figures;
  figures.elapsed = std::chrono::steady_clock::now() - begin;
  const auto totals = index_readers(database, 1).totals();
  figures.rows = totals.rows;
  figures.bytes = totals.bytes;
  print_skipped(progress.skipped);
  return figures;
}

http_server::handler pages_of(site& pages) {
  return [&pages](std::string target) { return pages.answer(std::move(target)); };
}

int serve(const options& wanted, const std::filesystem::path& database) {
  site pages(database, calling::through_sync_to_async);
  http_server server(wanted.port, pages_of(pages));
  const auto names = index_readers(database, 1).some_names(1);
  const auto address = "http://127.0.0.1:" + std::to_string(server.endpoint().port());
  std::cout << "Serving at " << address << " until Ctrl-C. Try\n  curl " << address << "/check\n";
  if (!names.empty())
    std::cout << "  curl '" << address << "/file?name=" << percent_encode(names.front()) << "'\n";
  std::cout << "  curl " << address << "/work/6" << std::endl;

  try {
    async_to_sync(until_signal)();
  } catch (const interruption& signal) {
    std::cout << signal.what() << ": answering what has arrived\n" << std::flush;
  }
  const auto counts = server.stop();
  std::cout << "Stopped. " << grouped(counts.answered) << " requests answered, "
            << grouped(counts.refused) << " refused, " << grouped(counts.hung_up)
            << " clients hung up" << std::endl;
  return 0;
}

load_figures measure(const options& wanted, const std::filesystem::path& database, calling how) {
  site pages(database, how);
  http_server server(wanted.port, pages_of(pages));
  load_plan plan{server.endpoint(), wanted.seconds, index_readers(database, 1).some_names(1000)};
  const auto measure_plan = [](load_plan p) { return interruptible(put_under_load(std::move(p))); };
  return async_to_sync(measure_plan)(std::move(plan));
}

int run(const options& wanted) {
  std::optional<temporary_directory> scratch;
  auto database = wanted.database;
  if (database.empty()) database = scratch.emplace().path() / "index.sqlite";

  const auto indexed = index(wanted, database);
  if (wanted.serve) return serve(wanted, database);

  std::cout << "Measuring " << wanted.seconds.count()
            << " s with the blocking code straight on the loop …" << std::endl;
  auto on_the_loop = measure(wanted, database, calling::on_the_loop);
  std::cout << "… and " << wanted.seconds.count() << " s with it behind sync_to_async" << std::endl;
  auto through_the_bridge = measure(wanted, database, calling::through_sync_to_async);
  print_table(std::cout, indexed, std::move(on_the_loop), std::move(through_the_bridge));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const auto wanted = parse_options(argc, argv);
    if (wanted.help) {
      std::cout << help_text;
      return 0;
    }
    hold_signals();
    return run(wanted);
  } catch (const usage_error& error) {
    std::cerr << "demo: " << error.what() << " (--help lists the options)\n";
    return 2;
  } catch (const interruption& signal) {
    std::cerr << "demo: stopped by " << signal.what() << '\n';
    return 128 + signal.signal();
  } catch (const std::exception& error) {
    std::cerr << "demo: " << error.what() << '\n';
    return 1;
  }
}
