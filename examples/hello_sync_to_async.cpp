// SPDX-License-Identifier: BSL-1.0
//
// The smallest program that goes from async to blocking code and back.

//! [hello_sync_to_async]
#include <bothworlds/sync_to_async.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include <fstream>
#include <iostream>
#include <iterator>
#include <string>

std::string read_file(std::string path) {  // blocks its thread
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

boost::asio::awaitable<void> print_size(std::string path) {  // the loop goes on meanwhile
  const std::string text = co_await bothworlds::sync_to_async(read_file)(path);
  std::cout << path << " has " << text.size() << " bytes\n";
}

int main() {
  boost::asio::io_context loop;  // yours: any io_context, strand or thread_pool will do
  boost::asio::co_spawn(loop, print_size("/etc/hostname"), boost::asio::detached);
  loop.run();
}
//! [hello_sync_to_async]
