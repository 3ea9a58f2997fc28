// SPDX-License-Identifier: BSL-1.0
// case: gcc12_safe_spellings: a macro silences the warning
// flavor: pass
#define BOTHWORLDS_NO_COROUTINE_TEMPORARY_WARNING
#include <bothworlds/sync_to_async.hpp>

#include <string>

auto wrap(std::string text) {
  return bothworlds::sync_to_async([text] { (void)text; });
}
