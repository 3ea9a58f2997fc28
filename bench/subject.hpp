// SPDX-License-Identifier: BSL-1.0
//
// What is measured: a *case* is a question ("B3: one no-op offload and back"), a *subject* one
// answer to it, ours or a baseline. The timing program and the counting program run the same
// subjects.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace bench {

class subject {
public:
  virtual ~subject() = default;
  /// Makes `rounds` rounds of the calls that the case is about.
  virtual void run(std::size_t rounds) = 0;
};

struct entry {
  std::string name;                                // CASE/SUBJECT, or CURVE/SUBJECT/X
  std::size_t calls_per_round;                     // figures are per call
  std::size_t warm_rounds;                         // before anything is measured or counted
  std::function<std::unique_ptr<subject>()> make;  // starts what the subject needs: pools, loops
  // The same with twice as many calls for what is started once: the difference is that of the calls
  // alone. Null: nothing is.
  std::function<std::unique_ptr<subject>()> make_longer = nullptr;
};

class registry {
public:
  /// Subject has run(rounds); it is made from `arguments`, which are copied.
  template <class Subject, class... Args>
  void add(std::string name, std::size_t calls_per_round, std::size_t warm_rounds,
           Args... arguments) {
    entries_.push_back(
        {std::move(name), calls_per_round, warm_rounds, maker<Subject>(arguments...)});
  }
  /// Makes the latest one's longer twin from `arguments`.
  template <class Subject, class... Args>
  void longer(Args... arguments) {
    entries_.back().make_longer = maker<Subject>(arguments...);
  }
  const std::vector<entry>& entries() const noexcept { return entries_; }

private:
  template <class Subject, class... Args>
  static std::function<std::unique_ptr<subject>()> maker(Args... arguments) {
    struct holder final : subject {
      explicit holder(const Args&... given) : held(given...) {}
      void run(std::size_t rounds) override { held.run(rounds); }
      Subject held;
    };
    return [arguments...] { return std::make_unique<holder>(arguments...); };
  }

  std::vector<entry> entries_;
};

/// The compiler has to produce `value`, and may not know what becomes of it.
template <class T>
void keep(const T& value) {
  asm volatile("" : : "r,m"(value) : "memory");
}

}  // namespace bench
