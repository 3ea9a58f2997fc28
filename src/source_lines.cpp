// SPDX-License-Identifier: BSL-1.0
#include "source_lines.hpp"

#include "describe.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <string_view>

#include <cxxabi.h>
#include <dlfcn.h>
#include <link.h>

namespace bothworlds::detail {
namespace {

/// Where in which file of the dynamic linker's an address is.
struct place_in_module {
  std::string path;
  std::uintptr_t offset = 0;
};

place_in_module place_of(void* address) {
  Dl_info info = {};
  ::link_map* module = nullptr;
  if (::dladdr1(address, &info, reinterpret_cast<void**>(&module), RTLD_DL_LINKMAP) == 0) return {};
  const std::uintptr_t offset = reinterpret_cast<std::uintptr_t>(address) - module->l_addr;
  std::error_code unreadable;
  if (*module->l_name == '\0')
    return {std::filesystem::read_symlink("/proc/self/exe", unreadable).string(), offset};
  return {module->l_name, offset};
}

std::string hexadecimal(std::uintptr_t number) {
  std::array<char, 24> text = {};
  std::snprintf(text.data(), text.size(), "0x%jx", static_cast<std::uintmax_t>(number));
  return text.data();
}

std::string quoted_for_shell(std::string_view text) {
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

std::vector<std::string> lines_said_by(const std::string& command) {
  struct close_pipe {
    void operator()(std::FILE* pipe) const noexcept { ::pclose(pipe); }
  };
  std::vector<std::string> lines;
  const std::unique_ptr<std::FILE, close_pipe> pipe(::popen(command.c_str(), "re"));
  if (!pipe) return lines;
  std::string line;
  for (int c; (c = std::getc(pipe.get())) != EOF;) {
    if (c != '\n') {
      line += static_cast<char>(c);
      continue;
    }
    lines.push_back(std::move(line));
    line.clear();
  }
  return lines;
}

/// A function's mangled name and its line, for each function that is inlined there and the one they
/// are inlined into.
using functions_at = std::vector<std::pair<std::string, std::string>>;

// addr2line -a -f -i says for each address itself, and then two lines for each function.
std::map<std::uintptr_t, functions_at> ask_addr2line(const std::string& module,
                                                     const std::vector<std::uintptr_t>& offsets) {
  std::string command = "addr2line -a -f -i -e " + quoted_for_shell(module);
  for (const std::uintptr_t offset : offsets) command += " " + hexadecimal(offset);
  std::map<std::uintptr_t, functions_at> known;
  functions_at* current = nullptr;
  const std::vector<std::string> said = lines_said_by(command + " 2>/dev/null");
  for (std::size_t i = 0; i < said.size(); ++i) {
    if (said[i].starts_with("0x")) {
      current = &known[std::stoull(said[i], nullptr, 16)];
    } else if (current && i + 1 < said.size()) {
      current->emplace_back(said[i], said[i + 1]);
      ++i;
    }
  }
  return known;
}

using owner = source_line::owner;

// By its name alone: there is nothing in these that a report could show.
owner owner_of_module(const std::string& path) {
  const std::string name = std::filesystem::path(path).filename().string();
  if (name.starts_with("libbothworlds.so")) return owner::bothworlds;
  for (const std::string_view library :
       {"libc.so", "libm.so", "libpthread", "libstdc++", "libc++", "libgcc_s", "ld-linux",
        "libasan", "libtsan", "libubsan", "linux-vdso", "libboost_thread"})
    if (name.starts_with(library)) return owner::others;
  return path.empty() ? owner::others : owner::program;
}

// In a mangled name the namespace comes first, whatever the function returns.
std::string_view outermost_scope(std::string_view mangled) {
  if (!mangled.starts_with("_Z")) return mangled;
  mangled.remove_prefix(2);
  mangled.remove_prefix(std::min(mangled.find_first_not_of('Z'), mangled.size()));
  mangled.remove_prefix(std::min(mangled.find_first_not_of("NLKVrRO"), mangled.size()));
  return mangled;
}

owner owner_of_function(const std::string& mangled, const std::string& file) {
  const std::string_view scope = outermost_scope(mangled);
  const bool named = mangled.starts_with("_Z");
  if ((named && scope.starts_with("10bothworlds")) ||
      file.find("/include/bothworlds/") != std::string::npos)
    return owner::bothworlds;
  for (const std::string_view other : {"St", "Sa", "Ss", "5boost", "9__gnu_cxx", "11__sanitizer"})
    if (named && scope.starts_with(other)) return owner::others;
  for (const std::string_view other : {"__interceptor_", "___interceptor_", "__tsan", "__asan"})
    if (mangled.starts_with(other)) return owner::others;
  const bool of_a_library =
      file.starts_with("/usr/include/") || file.find("/include/boost/") != std::string::npos;
  return of_a_library ? owner::others : owner::program;
}

std::string demangled(const std::string& name) {
  struct release {
    void operator()(char* text) const noexcept { std::free(text); }
  };
  int failed = 0;
  const std::unique_ptr<char, release> text(
      abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &failed));
  return text ? text.get() : name;
}

}  // namespace

std::vector<source_line> source_lines(const std::vector<void*>& stack) {
  std::vector<place_in_module> places;
  std::map<std::string, std::vector<std::uintptr_t>> offsets;
  for (void* const address : stack) {
    places.push_back(place_of(address));
    offsets[places.back().path].push_back(places.back().offset);
  }
  std::map<std::string, std::map<std::uintptr_t, functions_at>> known;
  for (const auto& [module, at] : offsets)
    if (owner_of_module(module) == owner::program) known[module] = ask_addr2line(module, at);
  std::vector<source_line> lines;
  for (const place_in_module& place : places) {
    functions_at& functions = known[place.path][place.offset];
    if (functions.empty()) functions.emplace_back("??", "??");
    for (const auto& [function, file] : functions) {
      // "file:line (discriminator 3)"
      source_line line{{}, file.substr(0, file.find(" (")), owner_of_module(place.path)};
      if (line.of == owner::program) line.of = owner_of_function(function, line.file);
      if (function != "??") line.function = without_coroutine_frame(demangled(function));
      if (line.file.starts_with("??"))
        line.file = place.path.empty() ? "??" : place.path + "+" + hexadecimal(place.offset);
      else
        line.file = std::filesystem::path(line.file).lexically_normal().string();
      lines.push_back(std::move(line));
    }
  }
  return lines;
}

}  // namespace bothworlds::detail
