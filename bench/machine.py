# SPDX-License-Identifier: BSL-1.0
"""What the figures were measured on."""

import os
import platform
import re
import subprocess
from pathlib import Path


def first_line(*command):
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"


def field(path, name):
    found = re.search(rf"^{name}\s*:\s*(.+)$", Path(path).read_text(), re.M)
    return found[1] if found else "unknown"


def boost_version():
    for folder in ("/usr/include", "/usr/local/include"):
        header = Path(folder) / "boost/version.hpp"
        if header.exists():
            return field_of_define(header.read_text(), "BOOST_LIB_VERSION").strip('"').replace("_", ".")
    return "unknown"


def field_of_define(text, name):
    found = re.search(rf"^#define {name} (\S+)$", text, re.M)
    return found[1] if found else "unknown"


def describe():
    cpuinfo = "/proc/cpuinfo"
    virtual = "hypervisor" in field(cpuinfo, "flags").split() if platform.machine() == "x86_64" else False
    return {
        "cpu": field(cpuinfo, "model name"),
        "cpus": len(os.sched_getaffinity(0)),
        "virtual": virtual,
        "kernel": platform.release(),
        "compiler": first_line("g++", "--version"),
        "boost": boost_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def as_text(machine):
    return (f"{machine['cpus']} CPUs ({machine['cpu']}{', virtual' if machine['virtual'] else ''}), "
            f"Linux {machine['kernel']}, {machine['compiler']} -O3, Boost {machine['boost']}; "
            f"load before the run {machine['load_before']}")
