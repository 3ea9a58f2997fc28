// SPDX-License-Identifier: BSL-1.0
#include "describe.hpp"

#include <cstdio>
#include <string_view>

namespace bothworlds::detail {

std::string describe(const std::source_location& where) {
  const std::string_view file = where.file_name();
  if (file.empty()) return "an unknown place";
  return std::string(file) + ":" + std::to_string(where.line());
}

std::string describe_call(const char* bridge, const char* name, const std::source_location& where) {
  std::string text = bridge;
  if (name) text += std::string(" \"") + name + "\"";
  return text + " at " + describe(where);
}

std::string without_coroutine_frame(const std::string& function) {
  const std::size_t frame = function.rfind(".Frame*)");
  if (frame == std::string::npos) return function;
  std::size_t at = frame + std::string_view(".Frame*)").size() - 1;
  for (int open = 1; open != 0 && at != 0;) {
    --at;
    open += function[at] == ')' ? 1 : function[at] == '(' ? -1 : 0;
  }
  return function.substr(0, at);
}

std::string in_seconds(std::chrono::nanoseconds time) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f s", std::chrono::duration<double>(time).count());
  return text;
}

}  // namespace bothworlds::detail
