// SPDX-License-Identifier: BSL-1.0
//
// The pages. What they do is blocking code; the same functions are called straight on the loop or
// through sync_to_async, and nothing else differs between the two columns of the demo's table.
#pragma once

#include "file_index.hpp"

#include <bothworlds/worker_pool.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/beast/http/status.hpp>

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

namespace demo {

namespace asio = boost::asio;
namespace http = boost::beast::http;

struct reply {
  http::status status = http::status::ok;
  std::string body;
};

enum class calling { on_the_loop, through_sync_to_async };

class site {
public:
  static constexpr unsigned most_digits = 7;  // of N in /work/N: 10^7 numbers are 40 MB

  site(const std::filesystem::path& database, calling how);

  /// Answers "/check", "/work/N" and "/file?name=…". Safe to call from any number of coroutines on
  /// one loop.
  asio::awaitable<reply> answer(std::string target);

private:
  asio::awaitable<reply> work(std::string_view digits);
  asio::awaitable<reply> file(std::string_view query);

  template <class F, class... Args>
  auto call(bothworlds::worker_pool& pool, F f, Args... args)
      -> asio::awaitable<std::invoke_result_t<F, Args...>>;

  const calling how_;
  index_readers index_;
  // Queries never queue behind a sort, and there is a connection for each thread that may want one.
  bothworlds::worker_pool query_pool_;
  bothworlds::worker_pool sort_pool_;
};

/// "%41%2f" for what may not stand in a query as it is, and back; nothing for a broken escape.
std::string percent_encode(std::string_view text);
std::optional<std::string> percent_decode(std::string_view text);

}  // namespace demo
