// SPDX-License-Identifier: BSL-1.0
// case: the wrapper of a callable that cannot be copied says how it can be called
// expect: can be called only once
// reject: no matching function
#include <bothworlds/sync_to_async.hpp>

#include <memory>

struct owner {
  explicit owner(int n) : number(std::make_unique<int>(n)) {}
  int operator()() const { return *number; }
  std::unique_ptr<int> number;
};

auto call() {
  auto wrapped = bothworlds::sync_to_async(owner(1));
  return wrapped();
}
