// SPDX-License-Identifier: BSL-1.0
//
// Load: several clients at once, each sending its next request as soon as it has its answer.
#pragma once

#include "measurements.hpp"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>

#include <chrono>
#include <string>
#include <vector>

namespace demo {

namespace asio = boost::asio;

struct load_plan {
  asio::ip::tcp::endpoint server;
  std::chrono::duration<double> seconds{8};
  std::vector<std::string> names;  // to ask /file for; none: nobody asks
};

/// Clients of /check, /file and /work side by side, until the time is up and every answer is in.
asio::awaitable<load_figures> put_under_load(load_plan plan);

}  // namespace demo
