# SPDX-License-Identifier: Apache-2.0
"""Real `hadb node` processes for scripts and tests: start, signal, ask, wait. Python's standard library only.

Every wait has a bound; only processes that were started here are signalled. A Node is used by one thread, a Client too.
"""
import http.client
import json
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.parse
import uuid


class Failure(Exception):
    """Something did not hold; the text says what."""


def request_id():
    """A UUIDv7."""
    value = bytearray(int(time.time() * 1000).to_bytes(6, "big") + os.urandom(10))
    value[6] = 0x70 | value[6] & 0x0F
    value[8] = 0x80 | value[8] & 0x3F
    return str(uuid.UUID(bytes=bytes(value)))


def wait_for(what, seconds, check, pause=0.02):
    """Calls check() until it returns something true, which is returned; Failure after so many seconds."""
    until = time.monotonic() + seconds
    while True:
        result = check()
        if result:
            return result
        if time.monotonic() >= until:
            raise Failure(f"{what}: not within {seconds:g} s")
        time.sleep(pause)


class Reply:
    """Status, headers and body of an answer; status 0: no answer, and .sent says whether the request went out."""

    def __init__(self, status, headers, body, sent=True):
        self.status, self.headers, self.body, self.sent = status, headers, body, sent

    def header(self, name):
        return self.headers.get(name, "")

    @property
    def version(self):
        return self.header("Hadb-Version")

    @property
    def bookmark(self):
        return self.header("Hadb-Bookmark")

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"HTTP {self.status} {self.body[:200]!r}"


class Client:
    """Keep-alive HTTP to one node, opened again when it broke."""

    def __init__(self, address, token=None, timeout=15):
        self.address, self.token, self.timeout = address, token, timeout
        self.connection = None

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    def request(self, method, path, body=None, headers=None):
        sent = False
        lines = dict(headers or {})
        if self.token:
            lines["Authorization"] = f"Bearer {self.token}"
        try:
            if self.connection is None:
                host, port = self.address.rsplit(":", 1)
                self.connection = http.client.HTTPConnection(host, int(port), timeout=self.timeout)
                self.connection.connect()
            sent = True
            self.connection.request(method, path, body=body, headers=lines)
            answer = self.connection.getresponse()
            return Reply(answer.status, answer.headers, answer.read())
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return Reply(0, {}, str(error).encode(), sent)

    def once(self, method, path, body=None, headers=None):
        """One request on a connection of its own."""
        try:
            return self.request(method, path, body, headers)
        finally:
            self.close()

    def kv(self, method, db, key, body=None, query="", **headers):
        """A request on one key, given as text or bytes. Header names: request_id becomes Hadb-Request-Id."""
        path = f"/v1/db/{db}/kv/{urllib.parse.quote(key, safe='')}" + (f"?{query}" if query else "")
        return self.request(method, path, body, hadb_headers(headers))


def hadb_headers(names):
    return {"Hadb-" + "-".join(part.title() for part in name.split("_")): str(value)
            for name, value in names.items()}


class Node:
    """One process. Its log is FOLDER/NAME.log."""

    def __init__(self, binary, folder, name, databases, *, store=None, lease=None, ttl_ms=2000,
                 options=(), token_file=None, env=None):  # env: all of it; None: as here
        self.binary, self.folder, self.name = binary, folder, name
        self.env = env
        self.data = os.path.join(folder, name)
        self.log = os.path.join(folder, f"{name}.log")
        self.args = [binary, "node", "--name", name, "--data", self.data,
                     "--store", store or f"file://{folder}/store",
                     "--lease", lease or f"file://{folder}/lease", "--ttl-ms", str(ttl_ms), *options]
        for database in databases:
            self.args += ["--db", database]
        self.token = None
        if token_file:
            self.args += ["--token-file", token_file]
            with open(token_file, encoding="utf-8") as file:
                self.token = file.read().strip()
        self.process, self.address, self.client = None, None, None

    def start(self, seconds=20, listen=None):
        """Returns once the node is ready; a node that was started before gets its old port again."""
        where = listen or self.address or "127.0.0.1:0"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.args + ["--listen", where], stdout=subprocess.PIPE,
                                            stderr=log, stdin=subprocess.DEVNULL, env=self.env)
        lines = queue.Queue()
        stdout = self.process.stdout

        def read():
            lines.put(stdout.readline())

        threading.Thread(target=read, daemon=True).start()
        try:
            line = lines.get(timeout=seconds).decode()
        except queue.Empty:
            line = ""
        if not line.startswith("ready "):
            self.kill()
            raise Failure(f"node {self.name} was not ready within {seconds} s: {self.last_words()}")
        self.address = line.split()[2]
        self.client = Client(self.address, self.token)
        return self

    def last_words(self):
        try:
            with open(self.log, encoding="utf-8", errors="replace") as log:
                return log.read().strip().splitlines()[-1]
        except (OSError, IndexError):
            return "it said nothing"

    @property
    def alive(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        if self.alive:
            self.process.send_signal(number)

    def kill(self):
        """SIGKILL; returns when the process is gone."""
        self.signal(signal.SIGKILL)
        self.wait(10)

    def stop(self, seconds=15):
        """SIGTERM; returns (exit code, seconds it took)."""
        started = time.monotonic()
        self.signal(signal.SIGTERM)
        return self.wait(seconds), time.monotonic() - started

    def wait(self, seconds):
        if self.process is None:
            return None
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
            raise Failure(f"node {self.name} did not end within {seconds} s") from None
        if self.process.stdout:
            self.process.stdout.close()
        if self.client:
            self.client.close()
        return code

    def status(self, db, timeout=5):
        """What it says of a database, as a dict; None when it does not answer."""
        client = Client(self.address, self.token, timeout=timeout)
        reply = client.once("GET", "/v1/status")
        if reply.status != 200:
            return None
        return next((entry for entry in reply.json()["databases"] if entry["name"] == db), None)


class Cluster:
    """Several nodes over one folder. Use it in a with statement: what still runs is killed at the end."""

    def __init__(self, binary, names=("n1", "n2", "n3"), databases=("app=kv",), keep=False, **options):
        self.folder = tempfile.mkdtemp(prefix="hadb-")
        self.keep = keep
        self.db = databases[0].split("=")[0]
        self.binary = binary
        self.nodes = [Node(binary, self.folder, name, databases, **options) for name in names]

    def __enter__(self):
        try:
            for node in self.nodes:
                node.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None:
            self.keep = True
        self.close()

    def close(self):
        for node in self.nodes:
            node.signal(signal.SIGCONT)
            node.kill()
        if not self.keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def node(self, name):
        return next(node for node in self.nodes if node.name == name)

    def views(self):
        return {node: node.status(self.db) for node in self.nodes if node.alive}

    def settled(self):
        """(leader node, its view) when all living nodes follow one leader in one term, else None."""
        views = self.views()
        leaders = [node for node, view in views.items() if view and view["role"] == "leader"]
        if len(leaders) != 1 or not all(views.values()):
            return None
        lead = views[leaders[0]]
        for view in views.values():
            if view["term"] != lead["term"] or (view["leader"] or {}).get("node") != leaders[0].name:
                return None
        return leaders[0], lead

    def leader(self, seconds=20):
        return wait_for("a settled leader", seconds, self.settled)[0]

    def new_leader(self, old, seconds=20):
        """Waits until another node than @old leads, whatever @old thinks."""

        def check():
            for node in self.nodes:
                view = node.status(self.db, timeout=1) if node.alive and node is not old else None
                if view and view["role"] == "leader":
                    return node
            return None

        return wait_for(f"a leader other than {old.name}", seconds, check, 0.005)

    def agree(self, seconds=30):
        """Waits for writers at rest: equal positions and chain hashes on all nodes. Returns the views."""

        def check():
            views = [view for view in self.views().values()]
            if not self.settled() or not all(views):
                return None
            keys = ("term", "durable_txid", "applied_txid", "chain_hash")
            return views if len({tuple(view[key] for key in keys) for view in views}) == 1 else None

        return wait_for("equal positions and chain hashes", seconds, check)

    def run(self, *args, env=None, data=None, timeout=60):
        """The program with these arguments: subprocess.CompletedProcess with bytes."""
        return subprocess.run([self.binary, *args], input=data, capture_output=True, timeout=timeout,
                              env={**os.environ, **(env or {})}, check=False)
