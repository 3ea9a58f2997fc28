#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Starts a PostgreSQL server in a temporary directory and runs postgres_test against it.

The server listens on a socket in that directory only, and runs as somebody who is not root. Takes the test binary; none:
libpq was missing when it should have been built. Without libpq or a server the test is skipped, and says why.
"""

import contextlib
import glob
import os
import pathlib
import pwd
import re
import shutil
import subprocess
import sys
import tempfile

PATIENCE = 60  # seconds, for anything that ought to take one
DOCTEST_LINE = re.compile(r"^\[doctest\] test cases:\s*(\d+) \|\s*(\d+) passed \|\s*(\d+) failed \|\s*(\d+) skipped", re.M)
ADVICE = "on Debian: tools/setup --all, or apt-get install libpq-dev postgresql"


def skip(why):
    print(f"skipped: {why} ({ADVICE})")
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(0)


def programs():
    """The directory of initdb and pg_ctl; Debian keeps them out of the PATH."""
    found = shutil.which("initdb")
    if found and shutil.which("pg_ctl"):
        return pathlib.Path(found).parent
    versions = [pathlib.Path(path).parent for path in glob.glob("/usr/lib/postgresql/*/bin/initdb")]
    return max(versions, key=lambda path: float(path.parent.name), default=None)


def unprivileged():
    """Who runs the server, and what to put before its commands: it refuses to run as root."""
    if os.geteuid() != 0:
        return None, []
    if not shutil.which("runuser"):
        return None, None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name), ["runuser", "-u", name, "--"]
    return None, None


def run(command, **options):
    result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, **options)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit code {result.returncode}\n{result.stdout}{result.stderr}")


@contextlib.contextmanager
def server(binaries, user, prefix):
    with tempfile.TemporaryDirectory(prefix="bothworlds-postgres-") as home:
        if user:
            os.chown(home, user.pw_uid, user.pw_gid)
        # No TCP, no fsync: it lives for seconds.
        settings = f"-c listen_addresses='' -c unix_socket_directories='{home}' -F"
        run([*prefix, str(binaries / "initdb"), "-D", f"{home}/data", "-U", "test", "--auth=trust", "--no-sync"], cwd=home)
        control = [*prefix, str(binaries / "pg_ctl"), "-D", f"{home}/data", "-w"]
        # Its output goes to a file: a server that kept our pipe open would keep us waiting.
        subprocess.run([*control, "-l", f"{home}/log", "-o", settings, "start"], check=True, cwd=home,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=PATIENCE)
        try:
            yield f"host={home} user=test dbname=postgres sslmode=disable gssencmode=disable"
        finally:
            run([*control, "-m", "immediate", "stop"], cwd=home)


def main():
    if len(sys.argv) < 2:
        skip("libpq is not installed")
    binaries = programs()
    if not binaries:
        skip("no PostgreSQL server is installed")
    user, prefix = unprivileged()
    if prefix is None:
        skip("a server must not run as root, and there is no runuser")
    pattern = os.environ.get("BOTHWORLDS_TEST_CASE", "*")
    with server(binaries, user, prefix) as where:
        result = subprocess.run([sys.argv[1], "--no-colors", "--no-version", "--test-case=" + pattern],
                                env=dict(os.environ, BOTHWORLDS_TEST_POSTGRES=where), stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True)
    print(result.stdout.rstrip())
    summary = DOCTEST_LINE.findall(result.stdout)
    passed, failed = map(int, summary[-1][1:3]) if summary else (0, 1)
    if result.returncode != 0 and failed == 0:
        failed = 1
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
