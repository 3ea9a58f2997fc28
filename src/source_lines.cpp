// SPDX-License-Identifier: BSL-1.0
#include "source_lines.hpp"

#include "describe.hpp"

#include <array>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <string_view>

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
  // The call, not where it returns to.
  const std::uintptr_t offset = reinterpret_cast<std::uintptr_t>(address) - module->l_addr - 1;
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

/// A function and its line, for each function that is inlined there and the one they are inlined
/// into.
using functions_at = std::vector<std::pair<std::string, std::string>>;

// addr2line -a -f -i says for each address itself, and then two lines for each function.
std::map<std::uintptr_t, functions_at> ask_addr2line(const std::string& module,
                                                     const std::vector<std::uintptr_t>& offsets) {
  std::string command = "addr2line -a -C -f -i -e " + quoted_for_shell(module);
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

bool is_of_program(const source_line& line, const std::string& module) {
  const std::string name = std::filesystem::path(module).filename().string();
  for (const std::string_view library :
       {"libc.so", "libm.so", "libpthread", "libstdc++", "libgcc_s", "ld-linux", "libbothworlds",
        "libasan", "libtsan", "libubsan", "linux-vdso", "libboost_thread"})
    if (name.starts_with(library)) return false;
  for (const std::string_view scope :
       {"bothworlds::", "boost::", "std::", "__gnu_cxx::", "__sanitizer", "__tsan", "__asan",
        "__interceptor_", "void std::", "void boost::", "decltype"})
    if (line.function.starts_with(scope)) return false;
  return !line.file.starts_with("/usr/include/");
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
    if (!module.empty()) known[module] = ask_addr2line(module, at);
  std::vector<source_line> lines;
  for (const place_in_module& place : places) {
    functions_at& functions = known[place.path][place.offset];
    if (functions.empty()) functions.emplace_back("??", "??");
    for (const auto& [function, file] : functions) {
      source_line line{without_coroutine_frame(function), file, false};
      // "file:line (discriminator 3)"
      line.file = line.file.substr(0, line.file.find(" ("));
      if (line.function == "??") line.function.clear();
      if (line.file.starts_with("??"))
        line.file = place.path.empty() ? "??" : place.path + "+" + hexadecimal(place.offset);
      else
        line.file = std::filesystem::path(line.file).lexically_normal().string();
      line.of_program = !place.path.empty() && is_of_program(line, place.path);
      lines.push_back(std::move(line));
    }
  }
  return lines;
}

}  // namespace bothworlds::detail
