// SPDX-License-Identifier: BSL-1.0
#pragma once

namespace bothworlds::detail {

/// A copy of `name` that lives as long as the process; the same one for equal names. Names are few
/// and given by the programmer, so reports may keep them without owning anything. Any thread.
/// Throws std::bad_alloc.
const char* interned(const char* name);

}  // namespace bothworlds::detail
