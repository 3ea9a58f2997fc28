// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <string>
#include <vector>

namespace bothworlds::detail {

/// A line of source that a thread is at.
struct source_line {
  /// Whose code it is.
  enum class owner { program, bothworlds, others };

  std::string function;  // demangled; empty: unknown
  std::string file;      // "path:line"; without debug information "path of the program+offset"
  owner of;
};

/// The lines that `stack` (see stack_of) stands for, innermost first, inlined functions too. Asks
/// addr2line, of the binutils, which takes a fraction of a second; where it is not installed, or
/// there is no debug information, it gives what the dynamic linker knows. Throws std::bad_alloc.
std::vector<source_line> source_lines(const std::vector<void*>& stack);

}  // namespace bothworlds::detail
