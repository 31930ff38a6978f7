#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""hadb lease-server: what docs/lease-http.md says of each request, and what the command line refuses. The contract suite of lease
stores runs over it elsewhere."""
import http.client
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from e2e import HADB, Cluster, main

TOKEN = "s3cret-token"


class Service:
    """A lease server of its own over mem: or the URL that is given."""

    def __init__(self, test, lease="mem:", *more):
        self.folder = tempfile.mkdtemp(prefix="hadb-lease-server-")
        test.addCleanup(shutil.rmtree, self.folder, True)
        token = os.path.join(self.folder, "token")
        with open(token, "w", encoding="ascii") as out:
            out.write(TOKEN)
        os.chmod(token, 0o600)
        self.process = subprocess.Popen(
            [HADB, "lease-server", "--listen", "127.0.0.1:0", "--lease", lease, "--token-file", token, *more],
            stdout=subprocess.PIPE, text=True)
        test.addCleanup(self.close)
        assert select.select([self.process.stdout], [], [], 20)[0]
        line = self.process.stdout.readline()
        self.address = re.fullmatch(r"ready (127\.0\.0\.1:\d+) pid \d+\n", line)[1]

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self.process.stdout.close()

    def ask(self, method, path, body=None, token=TOKEN, timeout=20, **headers):
        connection = http.client.HTTPConnection(self.address, timeout=timeout)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            headers["Authorization"] = "Bearer " + token
        try:
            connection.request(method, path, body, headers)
            reply = connection.getresponse()
            return reply.status, reply.headers, reply.read()
        finally:
            connection.close()


KEY = "/v1/lease/node/a"


class Requests(unittest.TestCase):
    def setUp(self):
        self.service = Service(self)
        self.ask = self.service.ask

    def refused(self, reply, status, error):
        self.assertEqual(reply[0], status, reply)
        body = json.loads(reply[2])
        self.assertEqual(set(body), {"error", "message"})
        self.assertEqual(body["error"], error, body)

    def create(self, record=b"one"):
        status, headers, body = self.ask("PUT", KEY, record, If_None_Match="*")
        self.assertEqual((status, body), (201, b""))
        return headers["ETag"]

    def test_a_record_is_created_read_and_replaced(self):
        self.refused(self.ask("GET", KEY), 404, "ABSENT")
        first = self.create()
        self.assertRegex(first, r'^"[^"]+"$')
        status, headers, body = self.ask("GET", KEY)
        self.assertEqual((status, headers["ETag"], body), (200, first, b"one"))
        status, headers, body = self.ask("PUT", KEY, b"two", If_Match=first)
        self.assertEqual((status, body), (200, b""))
        self.assertNotEqual(headers["ETag"], first)
        self.assertEqual(self.ask("GET", KEY)[2], b"two")
        status, head, body = self.ask("HEAD", KEY)
        self.assertEqual((status, head["ETag"], head["Content-Length"], body), (200, headers["ETag"], "3", b""))

    def test_a_write_that_comes_second_loses(self):
        first = self.create()
        self.refused(self.ask("PUT", KEY, b"x", If_None_Match="*"), 412, "LOST")
        self.ask("PUT", KEY, b"two", If_Match=first)
        for tag in (first, '"nothing"', "nothing", '""', 'W/"1"', '"a", "b"', "*", '"%zz"', '"' + "x" * 200 + '"'):
            self.refused(self.ask("PUT", KEY, b"x", If_Match=tag), 412, "LOST")
        self.refused(self.ask("PUT", "/v1/lease/other", b"x", If_Match=first), 412, "LOST")
        self.assertEqual(self.ask("GET", KEY)[2], b"two")

    def test_a_write_without_one_condition_is_refused(self):
        first = self.create()
        self.refused(self.ask("PUT", KEY, b"x"), 428, "EINVAL")
        self.refused(self.ask("PUT", KEY, b"x", If_Match=first, If_None_Match="*"), 428, "EINVAL")
        self.refused(self.ask("PUT", KEY, b"x", If_None_Match=first), 400, "EINVAL")
        for method in ("DELETE", "POST", "PATCH", "OPTIONS"):
            status, headers, _ = reply = self.ask(method, KEY, b"x" if method != "DELETE" else None)
            self.refused(reply, 405, "EINVAL")
            self.assertEqual(headers["Allow"], "GET, HEAD, PUT")
        self.assertEqual(self.ask("GET", KEY)[2], b"one")

    def test_limits_and_names(self):
        longest = b"x" * 65536
        self.create(longest)
        self.assertEqual(self.ask("GET", KEY)[2], longest)
        self.refused(self.ask("PUT", "/v1/lease/b", longest + b"x", If_None_Match="*"), 413, "ETOOBIG")
        self.refused(self.ask("GET", "/v1/lease/b"), 404, "ABSENT")
        for name in ("", "a/", "a//b", "%2e%2e/b", ".a", "a%20b", "k" * 513):
            self.refused(self.ask("GET", "/v1/lease/" + name), 400, "EINVAL")
        for path in ("/", "/v1/lease", "/v1/other/a", "/v2/lease/a"):
            self.refused(self.ask("GET", path), 404, "NOT_FOUND")
        for bad in ("0", "x", "-1", "600001", "99999999999999999999"):
            self.refused(self.ask("GET", KEY, Hadb_Deadline_Ms=bad), 400, "EINVAL")
        for bad in ("0", "x", "60001", ""):
            self.refused(self.ask("GET", KEY + "?wait_ms=" + bad), 400, "EINVAL")

    def test_the_token_is_needed_for_everything(self):
        for token in (None, "wrong", TOKEN + "x", TOKEN[:-1]):
            for method, path in (("GET", KEY), ("PUT", KEY), ("GET", "/")):
                status, headers, _ = reply = self.ask(method, path, token=token)
                self.refused(reply, 401, "EAUTH")
                self.assertEqual(headers["WWW-Authenticate"], "Bearer")

    def test_a_read_with_a_tag_says_whether_it_is_still_the_same(self):
        first = self.create()
        status, headers, body = self.ask("GET", KEY, If_None_Match=first)
        self.assertEqual((status, headers["ETag"], body), (304, first, b""))
        self.assertEqual(self.ask("GET", KEY, If_None_Match='"other"')[0], 200)

    def held(self, path, **headers):
        """A GET that is held back: where its answer will be, once joined."""
        answers = []

        def run():
            try:
                answers.append(self.ask("GET", path, **headers))
            except OSError as problem:  # the server ended
                answers.append((0, {"ETag": ""}, str(problem).encode()))

        thread = threading.Thread(target=run)
        thread.start()
        self.addCleanup(thread.join)
        return thread, answers

    def test_a_held_read_is_answered_by_a_change(self):
        first = self.create()
        thread, answers = self.held(KEY + "?wait_ms=20000", If_None_Match=first)
        second = self.ask("PUT", KEY, b"two", If_Match=first)[1]["ETag"]
        thread.join(10)
        self.assertEqual([(s, h["ETag"], b) for s, h, b in answers], [(200, second, b"two")])
        thread, answers = self.held("/v1/lease/later?wait_ms=20000")
        self.ask("PUT", "/v1/lease/later", b"made", If_None_Match="*")
        thread.join(10)
        self.assertEqual([b for _, _, b in answers], [b"made"])
        started = time.monotonic()
        self.assertEqual(self.ask("GET", KEY + "?wait_ms=30", If_None_Match=second)[0], 304)
        self.refused(self.ask("GET", "/v1/lease/nothing?wait_ms=30"), 404, "ABSENT")
        self.assertEqual(self.ask("GET", "/v1/lease/nothing?wait_ms=20000", If_None_Match=first)[0], 404)
        self.assertLess(time.monotonic() - started, 10)

    def test_a_signal_ends_it_though_a_read_is_held(self):
        first = self.create()
        thread, answers = self.held(KEY + "?wait_ms=50000", If_None_Match=first)
        self.service.process.send_signal(signal.SIGTERM)
        self.assertEqual(self.service.process.wait(10), 0)
        thread.join(10)
        self.assertFalse(thread.is_alive())


class Behind(unittest.TestCase):
    """Other stores behind it."""

    def test_a_store_that_is_down_is_a_failure_of_the_server(self):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            service = Service(self, f"http://127.0.0.1:{unused.getsockname()[1]}")
            status, _, body = service.ask("GET", KEY)
            self.assertEqual((status, json.loads(body)["error"]), (503, "EUNAVAIL"))
            status, _, body = service.ask("PUT", KEY, b"x", If_None_Match="*")
            self.assertEqual((status, json.loads(body)["error"]), (503, "EUNAVAIL"))

    def test_one_stands_behind_another(self):
        inner = Service(self)
        outer = Service(self, f"http://{TOKEN}@{inner.address}")
        tag = outer.ask("PUT", KEY, b"one", If_None_Match="*")[1]["ETag"]
        self.assertEqual(outer.ask("GET", KEY)[2], b"one")
        self.assertEqual(inner.ask("GET", KEY)[2], b"one")
        self.assertEqual(outer.ask("PUT", KEY, b"two", If_Match=tag)[0], 200)
        self.assertEqual(outer.ask("PUT", KEY, b"x", If_Match=tag)[0], 412)

    def test_nodes_find_each_other_through_it(self):
        service = Service(self)
        with Cluster(HADB, ("n1", "n2"), ("app=kv",), lease=f"http://{TOKEN}@{service.address}") as cluster:
            leader = cluster.leader()
            self.assertEqual(leader.client.kv("PUT", "app", "k", "v").status, 200)
            leader.kill()
            survivor = next(node for node in cluster.nodes if node is not leader)
            self.assertEqual(survivor.client.kv("GET", "app", "k").body, b"v")


class CommandLine(unittest.TestCase):
    def fails(self, code, words, *args):
        done = subprocess.run([HADB, "lease-server", *args], capture_output=True, text=True, timeout=20, check=False)
        self.assertEqual((done.returncode, done.stdout), (code, ""), done.stderr)
        self.assertIn(words, done.stderr)

    def test_what_can_never_work_is_said_at_once(self):
        self.fails(2, "needs --lease")
        self.fails(2, "one argument too many", "--lease", "mem:", "x")
        self.fails(2, "no option", "--lease", "mem:", "--frob")
        self.fails(2, "write ADDR:PORT", "--lease", "mem:", "--listen", "4290")
        self.fails(2, "write ADDR:PORT", "--lease", "mem:", "--listen", "localhost:1")
        self.fails(2, "write ADDR:PORT", "--lease", "mem:", "--listen", "127.0.0.1:x")
        self.fails(2, "go together", "--lease", "mem:", "--tls-cert", "/x")
        self.fails(2, "scheme gopher", "--lease", "gopher://x")
        self.fails(8, "--token-file is required", "--lease", "mem:", "--listen", "0.0.0.0:0")
        self.fails(8, "--token-file is required", "--lease", "mem:", "--listen", "[::]:0")
        self.fails(8, "cannot be read", "--lease", "mem:", "--tls-cert", "/nonexistent/c", "--tls-key", "/nonexistent/k")
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            self.fails(1, "cannot listen", "--lease", "mem:", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")


if __name__ == "__main__":
    main()
