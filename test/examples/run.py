#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Runs the examples and the demo as a user would, and looks at what they say.

Takes the directory of the built binaries, and the options with which the test runner calls any doctest
binary; ends with the line that doctest ends with.
"""

import argparse
import contextlib
import fnmatch
import http.client
import http.server
import os
import pathlib
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback

PATIENCE = 120  # seconds, for anything that ought to take one
CASES = []


def case(title):
    """Registers a test case under a sentence, as the C++ tests have them."""

    def register(function):
        CASES.append((title, function))
        return function

    return register


def binary(name):
    return str(BINARIES / name)


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, **options)


class Skipped(Exception):
    """Raised by a case that cannot run here, with what is missing."""


def need(program, what):
    """What `tools/setup --all` installs may not be there."""
    if not os.path.exists(binary(program)):
        raise Skipped(f"{program} is not built: {what} is not installed (tools/setup --all)")


def check(condition, *context):
    if not condition:
        raise AssertionError("\n".join(str(part) for part in context) or "see the line above")


def check_fails(result, code, *words):
    """The program ended with `code` and one line on standard error that has all the words."""
    check(result.returncode == code, f"exit code {result.returncode}, not {code}", result.stdout, result.stderr)
    check(result.stderr.count("\n") == 1, "not one line:", result.stderr)
    for word in words:
        check(word in result.stderr, f"'{word}' is not in:", result.stderr)


# --- what the demo is run on ---------------------------------------------------------------------------------


@contextlib.contextmanager
def small_tree():
    """A directory of which every row is known, and a TMPDIR in which nothing may be left."""
    with tempfile.TemporaryDirectory() as scratch:
        root = pathlib.Path(scratch) / "tree"
        (root / "sub" / "deeper").mkdir(parents=True)
        (root / "temporary").mkdir()
        (root / "empty").write_bytes(b"")
        (root / "a").write_bytes(b"a")
        (root / "sub" / "two lines & 100 %.txt").write_bytes(b"one\ntwo\n")
        (root / "sub" / "deeper" / "grüße\xff".encode("utf-8", "surrogateescape").decode()).write_bytes(b"\n" * 70000)
        (root / "link").symlink_to("a")
        (root / "dangling").symlink_to("nowhere")
        (root / "loop").symlink_to(".")
        os.mkfifo(root / "pipe")
        temporary = pathlib.Path(scratch) / "tmp"
        temporary.mkdir()
        yield root, temporary
        check(list(temporary.iterdir()) == [], "left behind:", *temporary.iterdir())


FILES_IN_SMALL_TREE = 4


def fnv1a(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


class Serving:
    """`demo --serve`, up and running until the end of the block; then it must stop well."""

    def __init__(self, tree, temporary, *options):
        self.command = [binary("bothworlds-demo"), str(tree), "--serve", *options]
        self.environment = dict(os.environ, TMPDIR=str(temporary))

    def __enter__(self):
        self.process = subprocess.Popen(
            self.command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.said = ""
        for line in self.process.stdout:
            self.said += line
            if match := re.search(r"Serving at http://127\.0\.0\.1:(\d+)", line):
                self.port = int(match[1])
            if "/work/6" in line:  # the last line of what it says at first
                return self
        raise AssertionError("it did not come up: " + self.said + self.process.stderr.read())

    def __exit__(self, kind, *_):
        if self.process.poll() is None:
            if kind is None:
                self.stop(signal.SIGTERM)
            else:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()

    def stop(self, number):
        """Sends the signal and returns the counts of the last line: answered, refused, hung up."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=PATIENCE)
        check(self.process.returncode == 0, f"exit code {self.process.returncode}", out, err)
        check(err == "", err)
        check(signal.Signals(number).name in out, out)
        match = re.search(r"Stopped\. ([\d,]+) requests answered, ([\d,]+) refused, ([\d,]+) clients hung up\n$", out)
        check(match, out)
        return tuple(int(count.replace(",", "")) for count in match.groups())

    def get(self, target, method="GET", **options):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, target, **options)
            answer = connection.getresponse()
            return answer.status, answer.read().decode("utf-8", "surrogateescape")
        finally:
            connection.close()

    def raw(self, data):
        """Sends these bytes and returns all that comes back until the server closes."""
        with self.connect() as client:
            client.sendall(data)
            return self.rest(client)

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    @staticmethod
    def rest(client):
        received = b""
        while block := client.recv(65536):
            received += block
        return received.decode("utf-8", "surrogateescape")


def demo(tree, temporary, *options):
    return run(binary("bothworlds-demo"), str(tree), *options, env=dict(os.environ, TMPDIR=str(temporary)))


# --- the short examples --------------------------------------------------------------------------------------


@case("wicked says one line and two seconds later the other")
def _():
    begin = time.monotonic()
    result = run(binary("wicked"))
    check(result.returncode == 0 and result.stderr == "", result)
    check(result.stdout == "By the pricking of my thumbs,\nsomething wicked this way comes.\n", result.stdout)
    check(time.monotonic() - begin >= 2)


@case("kitchen serves in the order of the orders, then the salad first and the lamb last")
def _():
    result = run(binary("kitchen"))
    check(result.returncode == 0 and result.stderr == "", result)
    served = re.findall(r"serves the (\w+)", result.stdout)
    check(served == ["lamb", "soup", "salad", "salad", "soup", "lamb"], result.stdout)
    in_turn, at_once = (int(spent) for spent in re.findall(r"after (\d+) ms", result.stdout))
    check(in_turn > at_once, result.stdout)


@case("get_chat_id gives the same answers in all four cases")
def _():
    result = run(binary("get_chat_id"))
    check(result.returncode == 0 and result.stderr == "", result)
    expected = (
        "sync from sync:   17\nasync from sync:  42\nasync from async: 17\n"
        "sync from async:  42\nsync from async:  no chat is called astronauts\n"
    )
    check(result.stdout == expected, result.stdout)


@case("sqlite_connection keeps a transaction open across awaits, on the one thread that may touch the connection")
def _():
    result = run(binary("sqlite_connection"))
    check(result.returncode == 0 and result.stderr == "", result)
    expected = (
        "moved 30, 70 left\nmoved 30, 40 left\nmoved 30, 10 left\nrefused, 10 left\n"
        "from main(): touched from another thread\nin all: 100\n"
    )
    check(result.stdout == expected, result.stdout)


@case("hello_sync_to_async tells the size of a file")
def _():
    result = run(binary("hello_sync_to_async"))
    path = pathlib.Path("/etc/hostname")
    size = path.stat().st_size if path.exists() else 0
    check(result.returncode == 0 and result.stderr == "", result)
    check(result.stdout == f"{path} has {size} bytes\n", result.stdout)


@case("row_cursor: a blocking query is walked row by row, and the loop goes on meanwhile")
def _():
    result = run(binary("row_cursor"))
    check(result.returncode == 0 and result.stderr == "", result)
    heaviest = sorted(((i * 7919 % 1000003, i) for i in range(1, 300001)), reverse=True)[:3]
    expected = "".join(f"ship {i}: {tons} tons\n" for tons, i in heaviest)
    check(result.stdout == expected + "The clock ticked meanwhile.\n", result.stdout)


@case("download gets several files at once by libcurl's blocking interface, and says what it did not get")
def _():
    need("download", "libcurl")
    sizes = {"/small": 10, "/large": 300_000}
    all_here = threading.Barrier(len(sizes))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path not in sizes:
                return self.send_error(404)
            all_here.wait(PATIENCE)  # one after the other, they would wait here for ever
            self.send_response(200)
            self.send_header("Content-Length", str(sizes[self.path]))
            self.end_headers()
            self.wfile.write(b"x" * sizes[self.path])

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        root = f"http://127.0.0.1:{server.server_port}"
        urls = [root + path for path in (*sizes, "/nowhere")]
        result = run(binary("download"), *urls, env=dict(os.environ, no_proxy="127.0.0.1"))
        server.shutdown()
    check(result.returncode == 0 and result.stderr == "", result)
    *got, missed = sorted(result.stdout.splitlines())
    check(got == sorted(f"{size} bytes from {root}{path}" for path, size in sizes.items()), result.stdout)
    check(missed.startswith(f"nothing from {root}/nowhere: "), result.stdout)


@contextlib.contextmanager
def redis_server():
    """A Redis server of the test's own; gives its port."""
    program = shutil.which("redis-server")
    if not program:
        raise Skipped("redis-server is not installed (tools/setup --all)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as scratch:
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", scratch]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
            try:
                said = ""
                while "Ready to accept connections" not in said:
                    line = server.stdout.readline()
                    check(line, "redis-server did not come up:", said)
                    said += line
                yield port
            finally:
                server.terminate()
                server.communicate(timeout=PATIENCE)


@case("redis_client: many coroutines on one blocking connection, and a queue walked as a stream, with a real server")
def _():
    need("redis_client", "hiredis")
    with redis_server() as port:
        result = run(binary("redis_client"), str(port))
    check(result.returncode == 0 and result.stderr == "", result)
    ping, counter, missing, error, *queue = result.stdout.splitlines()
    check([ping, counter, missing] == ["ping: PONG", "counter: 300", "missing: nothing"], result.stdout)
    check(error.startswith("error: ") and "wrong number of arguments" in error, result.stdout)
    check(queue == ["out of the queue: a letter", "out of the queue: a book"], result.stdout)
    check_fails(run(binary("redis_client"), str(port)), 1, "cannot connect")


class Guest:
    """A WebSocket client of just enough protocol."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.file = self.socket.makefile("rb")
        self.socket.sendall(
            f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        head = [self.file.readline()]
        while head[-1] not in (b"\r\n", b""):
            head.append(self.file.readline())
        check(b" 101 " in head[0], head)
        check(any(b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in line for line in head), head)

    def say(self, text):
        data = text.encode()
        mask = b"\x01\x02\x03\x04"
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
        self.socket.sendall(bytes([0x81, 0x80 | len(data)]) + mask + masked)

    def hears(self):
        kind, length = self.file.read(2)
        check(kind == 0x81 and length < 126, kind, length)
        return self.file.read(length).decode()

    def leave(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.file.close()
        self.socket.close()


@case("chat: what one guest says, a synchronous handler tells everybody")
def _():
    with subprocess.Popen([binary("chat")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            port = int(re.search(r"ws://127\.0\.0\.1:(\d+)", server.stdout.readline())[1])
            first = Guest(port)
            first.say("hello?")
            check(first.hears() == "guest 1: hello?")
            second = Guest(port)
            second.say("hello!")
            for guest in (first, second):
                check(guest.hears() == "guest 2: hello!")
            for number in range(50):
                first.say(f"line {number}")
            for guest in (first, second):
                for number in range(50):
                    check(guest.hears() == f"guest 1: line {number}")
            second.leave()
            first.say("anybody left?")
            check(first.hears() == "guest 1: anybody left?")
            server.send_signal(signal.SIGTERM)
            out, err = server.communicate(timeout=PATIENCE)
            check(server.returncode == 0 and err == "", server.returncode, out, err)
            check(out == "53 lines were said.\n", out)
        finally:
            server.kill()


def line_of(example, text):
    """Where the example's source has that text, as reports write it."""
    source = pathlib.Path(__file__).parents[2] / "examples" / f"{example}.cpp"
    for number, line in enumerate(source.read_text().splitlines(), 1):
        if text in line:
            return f"examples/{example}.cpp:{number}"
    raise AssertionError(f"'{text}' is not in {source}")


def run_debugging(name, value):
    return run(binary(name), env=dict(os.environ, BOTHWORLDS_DEBUG=value))


@case("blocked_loop: the line at which a coroutine blocks its loop is told")
def _():
    result = run_debugging("blocked_loop", "1")
    check(result.returncode == 0 and result.stdout == "42\n", result)
    check(result.stderr.count("has been in one step") == 1, result.stderr)
    check(line_of("blocked_loop", "sleep_for(1s)") in result.stderr, result.stderr)
    check(line_of("blocked_loop", "const int badly") in result.stderr, result.stderr)
    check(run_debugging("blocked_loop", "0").stderr == "")


@case("never_awaited: where a call was made that nobody awaited is told")
def _():
    result = run_debugging("never_awaited", "1")
    check(result.returncode == 0 and result.stdout == "done\n", result)
    check(line_of("never_awaited", "auto saving") in result.stderr, result.stderr)
    check(run_debugging("never_awaited", "0").stderr == "")


@case("never_retrieved: a failed task that nobody joined is told, with its error and its place")
def _():
    result = run_debugging("never_retrieved", "0")
    check(result.returncode == 0 and result.stdout == "done\n", result)
    check("nobody at the door" in result.stderr, result.stderr)
    check(line_of("never_retrieved", "co_await create_task") in result.stderr, result.stderr)


@case("two_tasks: the second task does not wait for the first one's two seconds")
def _():
    begin = time.monotonic()
    result = run(binary("two_tasks"))
    check(result.returncode == 0 and result.stderr == "", result)
    check(result.stdout == "hello\nworld\n", result.stdout)
    check(time.monotonic() - begin >= 2)


@case("gather_two: A then B takes twice as long as C and D together")
def _():
    result = run(binary("gather_two"))
    check(result.returncode == 0 and result.stderr == "", result)
    spent = re.fullmatch(r"A and B took (\d+) ms\nC and D took (\d+) ms\n", result.stdout)
    check(spent and int(spent[1]) >= 1000 and 500 <= int(spent[2]) < int(spent[1]), result.stdout)


@case("crawl: every page is told as it ends, the quickest first")
def _():
    result = run(binary("crawl"))
    check(result.returncode == 0 and result.stderr == "", result)
    pages = re.findall(r"^ *([\d.]+) s +(\d+) bytes  http://localhost/(\d)$", result.stdout, re.M)
    check([int(page) for *_, page in pages] == list(range(10)), result.stdout)
    check(all(int(size) == 10000 * int(page) for _, size, page in pages), result.stdout)


@case("work_check: /check answers while /work sorts, and a signal ends the server in good order")
def _():
    with subprocess.Popen([binary("work_check")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        port = int(re.fullmatch(r"http://127.0.0.1:(\d+)\n", server.stdout.readline())[1])

        def get(target):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
            connection.request("GET", target)
            return connection

        def body(connection):
            with contextlib.closing(connection):
                return connection.getresponse().read().decode()

        work = get("/work/7")
        check(body(get("/check")) == "OK\n")
        work.sock.setblocking(False)
        try:
            early = work.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            early = b""
        check(early == b"", "the sorting was over before /check was asked")
        work.sock.setblocking(True)
        check(body(work) == "sorted 10000000 numbers\n")
        check(body(get("/work/9")) == "try /check or /work/7\n")
        server.send_signal(signal.SIGINT)
        out, err = server.communicate(timeout=PATIENCE)
    check(server.returncode == 0 and err == "", server.returncode, err)
    check(out == f"stopped by signal {int(signal.SIGINT)}\n", out)


# --- the demo: command line ----------------------------------------------------------------------------------


@case("demo --help explains every option")
def _():
    result = run(binary("bothworlds-demo"), "--help")
    check(result.returncode == 0 and result.stderr == "", result)
    for option in ("DIRECTORY", "--serve", "--port", "--db", "--seconds", "--help"):
        check(option in result.stdout, option, result.stdout)


@case("demo refuses what it does not understand, with one line and exit code 2")
def _():
    def refused(*words, options):
        check_fails(run(binary("bothworlds-demo"), *options), 2, *words)

    refused("unknown option '--frobnicate'", options=["--frobnicate"])
    refused("'-x'", options=["-x"])
    refused("--port needs a value", options=["--port"])
    refused("--port needs a value", options=["--port="])
    refused("'0'", "--port", options=["--port", "0"])
    refused("'65536'", options=["--port=65536"])
    refused("'80x'", options=["--port", "80x"])
    refused("'-1'", options=["--seconds", "-1"])
    refused("'nan'", options=["--seconds", "nan"])
    refused("'1e9'", options=["--seconds=1e9"])
    refused("--serve takes no value", options=["--serve=yes"])
    refused("at most", "'/usr'", options=["/tmp", "/usr"])
    refused("no such directory: '/no/such/place'", options=["/no/such/place"])
    refused("no such directory: ''", options=[""])
    refused("not a directory", options=[binary("bothworlds-demo")])


@case("demo says which port is taken")
def _():
    with small_tree() as (tree, temporary), socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        check_fails(demo(tree, temporary, "--serve", "--port", str(port)), 1, str(port), "in use")
        check_fails(demo(tree, temporary, "--port", str(port)), 1, str(port), "in use")


# --- the demo: index -----------------------------------------------------------------------------------------


@case("demo writes one exact row for each regular file, and a second run replaces them all")
def _():
    with small_tree() as (tree, temporary):
        database = tree / "sub" / "index.db"  # inside the tree, and yet not part of the index
        for extra in ([], [("extra", b"more\n")]):
            for name, contents in extra:
                (tree / name).write_bytes(contents)
            with Serving(tree, temporary, "--db", str(database)) as server:
                check(server.said.count("\n") < 10, server.said)
            expected = set()
            for path in tree.rglob("*"):
                if path.is_file() and not path.is_symlink() and path != database:
                    data = path.read_bytes()
                    name = os.fsencode(path.relative_to(tree))
                    expected.add((name, len(data), data.count(b"\n"), fnv1a(data)))
            check(len(expected) == FILES_IN_SMALL_TREE + len(extra))
            connection = sqlite3.connect(database)
            connection.text_factory = bytes
            rows = connection.execute("SELECT name, bytes, lines, printf('%016x', hash) FROM files").fetchall()
            connection.close()
            check({(*row[:3], row[3].decode()) for row in rows} == expected, rows, expected)


@case("demo leaves a database of something else alone")
def _():
    with small_tree() as (tree, temporary):
        database = tree.parent / "precious.db"
        with contextlib.closing(sqlite3.connect(database)) as connection:
            connection.execute("CREATE TABLE files(name)")
            connection.execute("INSERT INTO files VALUES('mine')")
            connection.commit()
        before = database.read_bytes()
        check_fails(demo(tree, temporary, "--db", str(database)), 1, "not touched")
        check(database.read_bytes() == before)

        text = tree.parent / "letter.txt"
        text.write_text("Dear reader, this is no database. " * 100)
        check_fails(demo(tree, temporary, "--db", str(text)), 1, "not a database")
        check_fails(demo(tree, temporary, "--db", "/no/such/place/index.db"), 1, "cannot open")


@case("demo skips what it may not read, says so, and indexes the rest")
def _():
    with small_tree() as (tree, temporary):
        (tree / "secret").write_text("for nobody")
        (tree / "secret").chmod(0)
        (tree / "closed").mkdir(mode=0)
        user = {}
        if os.geteuid() == 0:  # to whom nothing is unreadable
            user = {"user": 65534, "group": 65534, "extra_groups": []}
            tree.parent.chmod(0o755)
            temporary.chmod(0o777)
        command = [binary("bothworlds-demo"), str(tree), "--seconds", "0.1"]
        try:
            result = run(*command, env=dict(os.environ, TMPDIR=str(temporary)), **user)
        except PermissionError:
            return  # the binaries are where that user may not go
        finally:
            (tree / "closed").chmod(0o755)
        check(result.returncode == 0, result)
        check("unreadable: 2" in result.stdout, result.stdout)
        check("secret: Permission denied" in result.stdout, result.stdout)
        check("closed: Permission denied" in result.stdout, result.stdout)
        check(f"indexed {FILES_IN_SMALL_TREE} rows" in result.stdout, result.stdout)


@case("demo stops for a signal in the middle of a huge file, and leaves the index as it was")
def _():
    with small_tree() as (tree, temporary):
        database = tree.parent / "index.db"
        check(demo(tree, temporary, "--db", str(database), "--seconds", "0.1").returncode == 0)
        before = database.read_bytes()
        with open(tree / "huge", "wb") as file:
            file.truncate(2**40)  # of nothing: it takes no room, only hours to read
        command = [binary("bothworlds-demo"), str(tree), "--db", str(database)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            while "%" not in process.stdout.readline():
                pass
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=PATIENCE)
        check(process.returncode == 128 + signal.SIGINT and "SIGINT" in err, process.returncode, out, err)
        with contextlib.closing(sqlite3.connect(database)) as connection:
            count = connection.execute("SELECT count(*) FROM files").fetchone()[0]
        check(count == FILES_IN_SMALL_TREE, count)
        check(database.read_bytes() == before)


# --- the demo: pages -----------------------------------------------------------------------------------------


@case("demo serves its pages, and gives every wrong request the status it deserves")
def _():
    with small_tree() as (tree, temporary), Serving(tree, temporary) as server:
        for target in ("/check", "/work/6", "/file"):  # what it suggests must work
            line = re.search(rf"^  curl '?http://127\.0\.0\.1:{server.port}({target}[^'\n]*)'?$", server.said, re.M)
            check(line, server.said)
            check(server.get(line[1])[0] == 200, line[1])
        answered = 3

        check(server.get("/check") == (200, "OK\n"))
        check(server.get("/check?whatever") == (200, "OK\n"))
        status, body = server.get("/work/3")
        check(status == 200 and "sorted 1000 numbers" in body, body)
        check(server.get("/work/0")[0] == 200)
        status, body = server.get("/file?name=sub/two%20lines%20%26%20100%20%25.txt")
        check(status == 200, body)
        check(re.search(r"^bytes +8$", body, re.M) and re.search(r"^lines +2$", body, re.M), body)
        check(fnv1a(b"one\ntwo\n") in body, body)
        status, body = server.get("/file?name=sub/deeper/gr%c3%bc%C3%9Fe%C3%BF")
        check(status == 200 and re.search(r"^lines +70000$", body, re.M), body)
        answered += 6

        for target in ("/", "/nothing", "/work", "/checkup", "/file?name=nothing", "/file?name=..%2F..%2Fetc", "/file?name=a%00"):
            check(server.get(target)[0] == 404, target, server.get(target))
        for target in ("/work/", "/work/8", "/work/-1", "/work/x", "/work/3x", "/work/99999999999999999999"):
            check(server.get(target)[0] == 400, target, server.get(target))
        for target in ("/file", "/file?", "/file?nam=a", "/file?name=%", "/file?name=%4", "/file?name=%zz"):
            check(server.get(target)[0] == 400, target, server.get(target))
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            check(server.get("/check", method)[0] == 405, method)

        check(server.get("/check", "HEAD") == (200, ""))
        check(server.get("/check", "POST", body=b"x" * 60_000)[0] == 405)
        check(server.get("/check", "POST", body=b"x" * 70_000)[0] == 413)
        check(server.get("/check", "POST", body=b"x" * 5_000_000)[0] == 413)
        check(server.get("/check", headers={"X-Long": "x" * 10_000})[0] == 431)
        check(server.raw(b"complete nonsense\r\n\r\n").startswith("HTTP/1.1 400"))
        check(server.raw(b"GET /check\r\n\r\n").startswith("HTTP/1.1 400"))
        check(server.raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20).startswith("HTTP/1.1 400"))
        check(server.raw(b"GET /check HTTP/1.1\r\nContent-Length: many\r\n\r\n").startswith("HTTP/1.1 400"))
        check(server.raw(b"GET /check HTTP/9.9\r\n\r\n").startswith("HTTP/1.1 505"))
        check("Connection: close" in server.raw(b"GET /check HTTP/1.0\r\n\r\n"))
        answered += 2
        check(server.get("/check") == (200, "OK\n"))
        answered += 1
        check(server.stop(signal.SIGINT)[0] == answered)


@case("demo answers requests that arrive in one piece, in many, and one after another on a connection")
def _():
    with small_tree() as (tree, temporary), Serving(tree, temporary) as server:
        last = b"GET /check HTTP/1.1\r\nConnection: close\r\n\r\n"
        together = server.raw(b"GET /check HTTP/1.1\r\n\r\nGET /work/2 HTTP/1.1\r\n\r\n" + last)
        check(together.count("HTTP/1.1 200 OK") == 3, together)
        with server.connect() as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in last:
                client.sendall(bytes([byte]))
                time.sleep(0.001)
            check(server.rest(client).endswith("\r\n\r\nOK\n"))


@case("demo gets over clients that hang up at every point")
def _():
    with small_tree() as (tree, temporary), Serving(tree, temporary) as server:
        request = b"GET /work/5 HTTP/1.1\r\nContent-Length: 9\r\n\r\n123456789"
        for length in range(len(request) + 1):
            with server.connect() as client:
                if length % 2:  # a reset instead of a farewell
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                client.sendall(request[:length])
        check(server.get("/check") == (200, "OK\n"))
        check(server.stop(signal.SIGTERM)[2] >= len(request) // 2)


@case("demo answers /check while every thread sorts")
def _():
    with small_tree() as (tree, temporary), Serving(tree, temporary) as server:
        with contextlib.ExitStack() as clients:
            sorting = []
            for _ in range(8):
                sorting.append(clients.enter_context(server.connect()))
                sorting[-1].sendall(b"GET /work/6 HTTP/1.1\r\nConnection: close\r\n\r\n")
            check(server.get("/check") == (200, "OK\n"))
            for client in sorting:
                check("sorted 1000000 numbers" in server.rest(client))


@case("demo --serve gives what it has begun an answer before it stops")
def _():
    for number in (signal.SIGINT, signal.SIGTERM):
        with small_tree() as (tree, temporary), Serving(tree, temporary) as server:
            with server.connect() as busy, server.connect() as slow, server.connect() as idle:
                slow.sendall(b"GET /check HTTP/1.1\r\nConnection: cl")
                busy.sendall(b"GET /work/7 HTTP/1.1\r\n\r\n")
                idle.sendall(b"HEAD /check HTTP/1.1\r\n\r\n")
                check(idle.recv(4096).startswith(b"HTTP/1.1 200"))
                server.process.send_signal(number)
                check(server.rest(idle) == "")  # closed at once, for it had nothing to ask
                slow.sendall(b"ose\r\n\r\n")
                check("OK" in server.rest(slow))
                answer = server.rest(busy)
                check("sorted 10000000 numbers" in answer and "Connection: close" in answer, answer)
            out, err = server.process.communicate(timeout=PATIENCE)
            check(server.process.returncode == 0 and "3 requests answered, 0 refused, 0 clients" in out, out, err)


# --- the demo: measuring -------------------------------------------------------------------------------------


@case("demo measures both ways of calling and prints one table, with no request lost")
def _():
    with small_tree() as (tree, temporary):
        result = demo(tree, temporary, "--seconds", "0.5")
        check(result.returncode == 0 and result.stderr == "", result)
        check(re.search(r"/check +requests per second +[\d,]+ +[\d,]+\n", result.stdout), result.stdout)
        check(len(re.findall(r"median latency +[\d.]+ ms +[\d.]+ ms\n", result.stdout)) == 3, result.stdout)
        check(len(re.findall(r"99th percentile +[\d.]+ ms +[\d.]+ ms\n", result.stdout)) == 3, result.stdout)
        check(re.search(r"requests that failed +0 +0\n", result.stdout), result.stdout)
        check(f"indexed {FILES_IN_SMALL_TREE} rows, 70,009 bytes" in result.stdout, result.stdout)


@case("demo has nothing against an empty directory")
def _():
    with small_tree() as (tree, temporary):
        (tree / "nothing").mkdir()
        result = demo(tree / "nothing", temporary, "--seconds", "0.1")
        check(result.returncode == 0 and result.stderr == "", result)
        check("indexed 0 rows, 0 bytes" in result.stdout, result.stdout)


@case("demo stops for a signal while it measures, and takes its files with it")
def _():
    for number in (signal.SIGINT, signal.SIGTERM):
        with small_tree() as (tree, temporary):
            environment = dict(os.environ, TMPDIR=str(temporary))
            with subprocess.Popen(
                [binary("bothworlds-demo"), str(tree), "--seconds", "60"],
                env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            ) as process:  # fmt: skip
                while "Measuring" not in process.stdout.readline():
                    pass
                process.send_signal(number)
                out, err = process.communicate(timeout=PATIENCE)
            check(process.returncode == 128 + number, process.returncode, out, err)
            check(signal.Signals(number).name in err and err.count("\n") == 1, err)


# -------------------------------------------------------------------------------------------------------------


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--test-case", default="*", metavar="PATTERN", help="only cases whose title matches")
    parser.add_argument("--no-colors", action="store_true", help="as always")
    parser.add_argument("--no-version", action="store_true", help="as always")
    options = parser.parse_args()
    global BINARIES
    BINARIES = options.directory.resolve()

    passed = failed = skipped = 0
    for title, function in CASES:
        if not fnmatch.fnmatchcase(title.lower(), options.test_case.lower()):
            skipped += 1
            continue
        begin = time.monotonic()
        try:
            function()
            passed += 1
            print(f"ok      {title} ({time.monotonic() - begin:.1f} s)", flush=True)
        except Skipped as missing:
            skipped += 1
            print(f"SKIPPED {title}: {missing}", flush=True)
        except Exception:  # whatever it is, the other cases are still worth running
            failed += 1
            print(f"FAILED  {title}\n{traceback.format_exc()}", flush=True)
    counts = f"{passed + failed} | {passed} passed | {failed} failed | {skipped} skipped"
    print(f"[doctest] test cases: {counts}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
