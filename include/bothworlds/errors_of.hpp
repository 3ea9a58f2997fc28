// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <bothworlds/config.hpp>

#include <exception>
#include <vector>

namespace bothworlds {

/// All errors behind one that a group, or gather, has thrown: `errors_of(std::current_exception())`
/// in a catch handler.
///
/// A group throws the first error that one of its tasks ended with, as it is; the others, in the
/// order of their coming, are kept with the values that follow the call (<bothworlds/context.hpp>),
/// and go where the first one goes, through both bridges. They are kept until the next group fails
/// there.
///
/// Returns     the first error, then the others. Just `thrown` itself where it did not come from a
/// group, or was the
///             only one; nothing for null.
/// Not for     a bare asio::co_spawn, which carries no values: there all errors but the first are
/// written to stderr.
BOTHWORLDS_API std::vector<std::exception_ptr> errors_of(const std::exception_ptr& thrown);

}  // namespace bothworlds
