# SPDX-License-Identifier: BSL-1.0
"""Precompiles a header with exactly the flags of another source of the same build."""

import argparse
import os
import subprocess
import sys

from compile_flags import command_of, without_launcher

parser = argparse.ArgumentParser()
parser.add_argument("--build", required=True)
parser.add_argument("--like", required=True, help="the source whose flags are taken")
parser.add_argument("--output", required=True)
parser.add_argument("--depfile", required=True)
parser.add_argument("--fingerprint", help="not read: it makes ninja notice that the flags changed")
parser.add_argument("header")
options = parser.parse_args()

output = os.path.abspath(options.output)
command = without_launcher(command_of(options.build, options.like))
command += ["-x", "c++-header", os.path.abspath(options.header), "-o", output]
command += ["-MD", "-MF", os.path.abspath(options.depfile), "-MT", options.output]
sys.exit(subprocess.run(command, cwd=options.build, check=False).returncode)
