# SPDX-License-Identifier: BSL-1.0
"""What one use of each bridge adds to a file that already includes what it needs of Asio: CPU seconds of the compiler,
bytes of code and constants."""

import json
import resource
import shlex
import subprocess
import tempfile
from pathlib import Path

ASIO = """
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>
#include <functional>
#include <string>
namespace asio = boost::asio;
int blocking(int x);
asio::awaitable<int> coroutine(int x);
asio::awaitable<int> caller() { co_return 1 + co_await coroutine(1); }
int plain() { asio::io_context io; auto f = asio::co_spawn(io, caller(), asio::use_future); io.run(); return f.get(); }
"""

SOURCES = {
    "without": ASIO,
    "sync_to_async": ASIO + """
#include <bothworlds/sync_to_async.hpp>
asio::awaitable<int> use() { co_return co_await bothworlds::sync_to_async(blocking)(1); }
""",
    "async_to_sync": ASIO + """
#include <bothworlds/async_to_sync.hpp>
int use() { return bothworlds::async_to_sync(coroutine)(1); }
""",
}


def compile_command(build):
    """As a file of the benchmarks is compiled, without ccache."""
    for entry in json.loads((build / "compile_commands.json").read_text()):
        if entry["file"].endswith("idle.cpp"):
            words = shlex.split(entry["command"])
            words = words[words.index("ccache") + 1:] if "ccache" in words else words
            kept, skip = [], False
            for word in words:
                if skip:
                    skip = False
                elif word in ("-o", "-MF", "-MQ"):
                    skip = True
                elif word not in ("-c", "-MD", "-g") and not word.endswith("idle.cpp"):
                    kept.append(word)
            return kept
    raise RuntimeError("no compile command for idle.cpp")


def cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def text_size(obj):
    """Code and constant data, without what the linker drops or merges names for."""
    return int(subprocess.run(["size", obj], stdout=subprocess.PIPE, text=True, check=True)
               .stdout.splitlines()[1].split()[0])


def measure(build, repeat):
    """{bridge: (added seconds, added bytes)}, and for "without" what it takes alone."""
    command = compile_command(build)
    seconds = {name: [] for name in SOURCES}
    sizes = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(repeat):
            for name, text in SOURCES.items():
                source, obj = Path(folder) / f"{name}.cpp", Path(folder) / f"{name}.o"
                source.write_text(text)
                began = cpu_seconds()
                subprocess.run(command + ["-c", source, "-o", obj], cwd=build, check=True)
                seconds[name].append(cpu_seconds() - began)
                sizes[name] = text_size(obj)
    base = min(seconds["without"])
    return {name: (base, sizes[name]) if name == "without" else (min(taken) - base, sizes[name] - sizes["without"])
            for name, taken in seconds.items()}
