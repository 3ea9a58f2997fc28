// SPDX-License-Identifier: BSL-1.0
#include "options.hpp"

#include <charconv>
#include <optional>
#include <string>
#include <utility>

namespace demo {

const std::string_view help_text =
    R"(usage: demo [DIRECTORY] [--serve] [--port N] [--db FILE] [--seconds S]

Indexes the files under DIRECTORY (default: /usr/include/boost) into SQLite, serves the index over
HTTP on 127.0.0.1, and measures how fast /check is answered while the server sorts and queries:
once with the blocking code called straight on the event loop, once through sync_to_async.

  --serve      keep the server up for curl, until Ctrl-C, instead of measuring
  --port N     listen on port N (default: any free one)
  --db FILE    keep the index in FILE (default: a temporary file)
  --seconds S  measure each way for S seconds, 0.1 to 60 (default: 8)
  --help       print this
)";

namespace {

template <class Number>
Number number_in(std::string_view option, std::string_view text, Number least, Number most) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  // Written so that a NaN is refused as well.
  if (error != std::errc{} || end != text.data() + text.size() ||
      !(value >= least && value <= most))
    throw usage_error("bad value '" + std::string(text) + "' for " + std::string(option));
  return value;
}

/// The arguments, one after another; "--name value" and "--name=value" mean the same.
class arguments {
public:
  arguments(int count, const char* const* words) : next_(words + 1), end_(words + count) {
    if (count < 1) next_ = end_;
  }

  bool next() {
    if (value_) throw usage_error("option " + std::string(name_) + " takes no value");
    if (next_ == end_) return false;
    name_ = *next_++;
    const auto equals = name_.find('=');
    if (name_.starts_with("--") && equals != name_.npos) {
      value_ = name_.substr(equals + 1);
      name_ = name_.substr(0, equals);
    }
    return true;
  }

  std::string_view name() const { return name_; }

  std::string_view value() {
    if (!value_ && next_ != end_) value_ = *next_++;
    if (!value_ || value_->empty())
      throw usage_error("option " + std::string(name_) + " needs a value");
    return *std::exchange(value_, std::nullopt);
  }

private:
  const char* const* next_;
  const char* const* end_;
  std::string_view name_;
  std::optional<std::string_view> value_;
};

}  // namespace

options parse_options(int argc, const char* const* argv) {
  options result;
  bool directory_given = false;
  arguments args(argc, argv);
  while (args.next()) {
    const auto name = args.name();
    if (name == "--help" || name == "-h") {
      result.help = true;
    } else if (name == "--serve") {
      result.serve = true;
    } else if (name == "--port") {
      result.port = number_in<unsigned short>(name, args.value(), 1, 65535);
    } else if (name == "--seconds") {
      result.seconds = std::chrono::duration<double>(number_in(name, args.value(), 0.1, 60.0));
    } else if (name == "--db") {
      result.database = args.value();
    } else if (name.starts_with('-')) {
      throw usage_error("unknown option '" + std::string(name) + "'");
    } else if (std::exchange(directory_given, true)) {
      throw usage_error("one directory at most, not also '" + std::string(name) + "'");
    } else {
      result.directory = name;
    }
  }
  if (result.help) return result;

  std::error_code error;
  const auto kind = std::filesystem::status(result.directory, error).type();
  if (kind == std::filesystem::file_type::not_found)
    throw usage_error("no such directory: '" + result.directory.string() + "'");
  if (error)
    throw usage_error("cannot look at '" + result.directory.string() + "': " + error.message());
  if (kind != std::filesystem::file_type::directory)
    throw usage_error("not a directory: '" + result.directory.string() + "'");
  return result;
}

}  // namespace demo
