// SPDX-License-Identifier: BSL-1.0
// case: gcc12_safe_spellings: none of the safe spellings draws the warning
// flavor: pass
#include <bothworlds/async_to_sync.hpp>
#include <bothworlds/sync_to_async.hpp>

#include <boost/asio/awaitable.hpp>

#include <functional>
#include <memory>
#include <string>

struct with_constructor {
  explicit with_constructor(std::string t) : text(std::move(t)) {}
  void operator()() const {}
  std::string text;
};

boost::asio::awaitable<int> async_function(int n);

boost::asio::awaitable<void> coroutine(std::string text) {
  int number = 1;
  co_await bothworlds::sync_to_async([&text] { (void)text; })();
  co_await bothworlds::sync_to_async([number] { (void)number; })();
  auto named = [text] { (void)text; };
  co_await bothworlds::sync_to_async(named)();
  auto wrapper = bothworlds::sync_to_async(named);
  co_await wrapper();
  co_await bothworlds::sync_to_async([](std::string argument) { (void)argument; })(text);
  co_await bothworlds::sync_to_async(with_constructor(text))();
  co_await bothworlds::sync_to_async(std::function<void()>(named))();
  struct local_with_constructor {
    explicit local_with_constructor(std::string t) : text(std::move(t)) {}
    void operator()() const {}
    std::string text;
  };
  auto in_a_lambda = [] {
    struct local {
      explicit local(std::string t) : text(std::move(t)) {}
      void operator()() const {}
      std::string text;
    };
    return bothworlds::sync_to_async(local("text"));
  };
  co_await in_a_lambda()();
  co_await bothworlds::sync_to_async(local_with_constructor(text))();
  // A wrapper has a constructor of its own.
  auto blocking = [named] { return async_function(1); };
  co_await bothworlds::sync_to_async(bothworlds::async_to_sync(blocking))();
}
