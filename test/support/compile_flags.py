# SPDX-License-Identifier: BSL-1.0
"""The command by which a source file of this build is compiled, without its input and outputs."""

import json
import os
import shlex


def command_of(build_dir, source):
    """Returns the compiler and its flags as a list. They hold relative paths: run them in build_dir."""
    source = os.path.realpath(source)
    with open(os.path.join(build_dir, "compile_commands.json"), encoding="utf-8") as file:
        entries = json.load(file)
    for entry in entries:
        if os.path.realpath(os.path.join(entry["directory"], entry["file"])) == source:
            break
    else:
        raise SystemExit(f"{source} is not compiled in {build_dir}")

    words = shlex.split(entry["command"])
    flags = []
    skip_next = False
    for word in words:
        if skip_next:
            skip_next = False
        elif word in ("-o", "-MF", "-MQ", "-MT"):
            skip_next = True
        elif word in ("-c", "-MD", "-MMD") or word == entry["file"]:
            pass
        else:
            flags.append(word)
    return flags


def without_launcher(command):
    """Drops a leading ccache, for compilations that it cannot keep anyway."""
    return command[1:] if os.path.basename(command[0]) in ("ccache", "sccache") else command
