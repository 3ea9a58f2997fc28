// SPDX-License-Identifier: BSL-1.0
//
// Downloads by libcurl's blocking interface, from coroutines, all at once.
//
//   download URL...

#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/channel.hpp>
#include <bothworlds/sync_to_async.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/this_coro.hpp>

#include <cstddef>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <vector>

#include <curl/curl.h>

namespace asio = boost::asio;
using bothworlds::async_to_sync;
using bothworlds::channel;
using bothworlds::sync_to_async;

//! [blocking]
// Blocking code. curl asks now and then whether it is to go on; a cancelled co_await answers no.
std::string download(std::stop_token stop, const std::string& url) {
  const std::unique_ptr<CURL, void (*)(CURL*)> curl(curl_easy_init(), curl_easy_cleanup);
  std::string body;
  const auto append = +[](char* data, std::size_t, std::size_t size, std::string* to) {
    to->append(data, size);
    return size;
  };
  const auto is_to_stop = +[](std::stop_token* asked, curl_off_t, curl_off_t, curl_off_t,
                              curl_off_t) { return asked->stop_requested() ? 1 : 0; };
  curl_easy_setopt(curl.get(), CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl.get(), CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl.get(), CURLOPT_FAILONERROR, 1L);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, append);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, &body);
  curl_easy_setopt(curl.get(), CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(curl.get(), CURLOPT_XFERINFOFUNCTION, is_to_stop);
  curl_easy_setopt(curl.get(), CURLOPT_XFERINFODATA, &stop);
  const CURLcode result = curl_easy_perform(curl.get());
  if (result != CURLE_OK) throw std::runtime_error(curl_easy_strerror(result));
  return body;
}
//! [blocking]

//! [coroutines]
asio::awaitable<void> download_and_tell(std::string url, channel<std::string>& news) {
  std::string line;
  try {
    const std::string body = co_await sync_to_async(download)(url);
    line = std::to_string(body.size()) + " bytes from " + url;
  } catch (const std::exception& e) {
    line = "nothing from " + url + ": " + e.what();
  }
  co_await news.send(line);
}

asio::awaitable<void> download_all(std::vector<std::string> urls) {
  channel<std::string> news(urls.size());
  for (const std::string& url : urls)
    asio::co_spawn(co_await asio::this_coro::executor, download_and_tell(url, news),
                   asio::detached);
  for (std::size_t i = 0; i < urls.size(); ++i) {
    const auto line = co_await news.receive();
    std::cout << *line << std::endl;
  }
}
//! [coroutines]

int main(int argc, char** argv) {
  curl_global_init(CURL_GLOBAL_DEFAULT);
  async_to_sync(download_all)(std::vector<std::string>(argv + 1, argv + argc));
  curl_global_cleanup();
}
