// SPDX-License-Identifier: BSL-1.0
#include "names.hpp"

#include <mutex>
#include <string>
#include <unordered_set>

namespace bothworlds::detail {

const char* interned(const char* name) {
  static std::mutex mutex;
  // Never destroyed: reports may be written while the process ends.
  static auto* const names = new std::unordered_set<std::string>;
  const std::lock_guard lock(mutex);
  return names->emplace(name).first->c_str();
}

}  // namespace bothworlds::detail
