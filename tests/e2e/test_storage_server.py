#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""hadb storage-server: what docs/storage-http.md says of each request, its limits, how it ends, and what the command line
refuses. The contract suite of storage runs over it elsewhere."""
import base64
import hashlib
import http.client
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import unittest

from e2e import HADB, Cluster, main, wait_for
from rest import TOKEN, CommandLine, Refusals, Service

BASE = "/v1/storage"
KEY = BASE + "/log/1"
MIB = 1 << 20


def storage_server(test, store="mem:"):
    return Service(test, "storage-server", "--store", store)


def digest(body):
    return "sha-256=:" + base64.b64encode(hashlib.sha256(body).digest()).decode() + ":"


class Requests(Refusals, unittest.TestCase):
    def setUp(self):
        self.service = storage_server(self)
        self.ask = self.service.ask

    def create(self, body=b"one", path=KEY):
        status, headers, text = self.ask("PUT", path, body, If_None_Match="*")
        self.assertEqual((status, text), (201, b""))
        return headers["ETag"]

    def listing(self, query=""):
        status, headers, text = self.ask("GET", BASE + query)
        self.assertEqual((status, headers["Content-Type"]), (200, "application/json"))
        return json.loads(text)

    def test_an_object_is_created_read_and_replaced(self):
        self.refused(self.ask("GET", KEY), 404, "ABSENT")
        status, headers, body = self.ask("HEAD", KEY)
        self.assertEqual((status, headers["Hadb-Error"], body), (404, "ABSENT", b""))
        first = self.create()
        self.assertRegex(first, r'^"[^" ]+"$')
        status, headers, body = self.ask("GET", KEY)
        self.assertEqual((status, headers["ETag"], body), (200, first, b"one"))
        self.assertEqual(headers["Content-Type"], "application/octet-stream")
        self.assertEqual(headers["Content-Digest"], digest(b"one"))
        status, headers, body = self.ask("PUT", KEY, b"three", If_Match=first)
        self.assertEqual((status, body), (200, b""))
        second = headers["ETag"]
        self.assertNotEqual(second, first)
        status, head, body = self.ask("HEAD", KEY)
        self.assertEqual((status, head["ETag"], head["Content-Length"], body), (200, second, "5", b""))

    def test_a_write_that_comes_second_loses(self):
        first = self.create()
        self.refused(self.ask("PUT", KEY, b"x", If_None_Match="*"), 412, "EXISTS")
        self.ask("PUT", KEY, b"two", If_Match=first)
        for tag in (first, '"nothing"', "nothing", '""', 'W/"1"', '"a", "b"', "*", '"%zz"', '"' + "x" * 200 + '"'):
            self.refused(self.ask("PUT", KEY, b"x", If_Match=tag), 412, "LOST")
        self.refused(self.ask("PUT", BASE + "/other", b"x", If_Match=first), 412, "LOST")
        self.assertEqual(self.ask("GET", KEY)[2], b"two")

    def test_a_write_without_one_condition_is_refused(self):
        first = self.create()
        self.refused(self.ask("PUT", KEY, b"x"), 428, "EINVAL")
        self.refused(self.ask("PUT", KEY, b"x", If_Match=first, If_None_Match="*"), 428, "EINVAL")
        self.refused(self.ask("PUT", KEY, b"x", If_None_Match=first), 400, "EINVAL")
        for method, path, allowed in (("DELETE", KEY, "GET, HEAD, PUT"), ("POST", KEY, "GET, HEAD, PUT"),
                                      ("PATCH", KEY, "GET, HEAD, PUT"), ("PUT", BASE, "GET, POST"),
                                      ("DELETE", BASE, "GET, POST")):
            reply = self.ask(method, path, b"x" if method != "DELETE" else None, If_None_Match="*")
            self.refused(reply, 405, "EINVAL")
            self.assertEqual(reply[1]["Allow"], allowed)
        self.assertEqual(self.ask("GET", KEY)[2], b"one")

    def test_a_body_that_does_not_fit_its_digest_is_not_written(self):
        for given in (digest(b"another"), "sha-256=::", "sha-256=x", f"{digest(b'one')}, {digest(b'two')}"):
            self.refused(self.ask("PUT", KEY, b"one", If_None_Match="*", Content_Digest=given), 400, "BAD_DIGEST")
        self.refused(self.ask("GET", KEY), 404, "ABSENT")
        for n, given in enumerate((digest(b"one"), "crc32c=:AAAAAA==:", f"a=1, {digest(b'one')};b")):
            path = f"{KEY}/{n}"
            self.assertEqual(self.ask("PUT", path, b"one", If_None_Match="*", Content_Digest=given)[0], 201)
        keys = b'{"delete":["log/1/0"]}'
        self.refused(self.ask("POST", BASE, keys, Content_Digest=digest(b"x")), 400, "BAD_DIGEST")
        self.assertEqual(self.ask("GET", KEY + "/0")[2], b"one")

    def test_ranges(self):
        self.create(b"0123456789")
        for given, part in (("bytes=0-0", b"0"), ("bytes=3-5", b"345"), ("bytes=8-100", b"89"),
                            ("bytes=9-999999999999", b"9")):
            status, headers, body = self.ask("GET", KEY, Range=given)
            self.assertEqual((status, body), (206, part))
            first = int(given[6])
            self.assertEqual(headers["Content-Range"], f"bytes {first}-{first + len(part) - 1}/*")
            self.assertEqual(headers["Content-Digest"], digest(part))
        self.refused(self.ask("GET", KEY, Range="bytes=10-11"), 416, "RANGE")
        self.refused(self.ask("GET", BASE + "/no", Range="bytes=0-1"), 404, "ABSENT")
        for ignored in ("bytes=5-3", "bytes=-3", "bytes=3-", "bytes=1-2,4-5", "lines=1-2", "bytes=1-2x",
                        "bytes= 1-2", "bytes=99999999999999999999-99999999999999999999"):
            self.assertEqual(self.ask("GET", KEY, Range=ignored)[::2], (200, b"0123456789"))

    def test_listing_and_deletion(self):
        for key in ("b", "a/2", "a/1", "a-1"):
            self.create(key.encode(), f"{BASE}/{key}")
        sizes = {"a-1": 3, "a/1": 3, "a/2": 3, "b": 1}

        def page(*keys, truncated=False):
            return {"objects": [{"key": key, "size": sizes[key]} for key in keys], "truncated": truncated}

        self.assertEqual(self.listing(), page("a-1", "a/1", "a/2", "b"))
        self.assertEqual(self.listing("?prefix=a/&after=&max=1"), page("a/1", truncated=True))
        self.assertEqual(self.listing("?prefix=a%2F&after=a/1"), page("a/2"))
        for query in ("?max=0", "?max=1001", "?max=x", "?max=", "?prefix=/", "?after=a%20b", "?prefix=a%00b"):
            self.refused(self.ask("GET", BASE + query), 400, "EINVAL")
        self.assertEqual(self.ask("POST", BASE, b'{"delete":["a/1","nothing","b"]}')[::2], (204, b""))
        self.assertEqual(self.listing(), page("a-1", "a/2"))
        many = json.dumps({"delete": ["k"] * 1001}).encode()
        for body in (b"", b"x", b"[]", b"{}", b'{"delete":"a-1"}', b'{"delete":[1]}', b'{"delete":["a-1"],"x":1}',
                     b'{"delete":["a-1","../x"]}', b'{"delete":["a-1"]', many):
            self.refused(self.ask("POST", BASE, body), 400, "EINVAL")
        self.refused(self.ask("POST", BASE, b" " * (2 * MIB + 1)), 413, "ETOOBIG")
        self.assertEqual(self.listing(), page("a-1", "a/2"))

    def test_limits_and_names(self):
        longest = bytes(64 * MIB)
        tag = self.create(longest)
        self.assertEqual(self.ask("GET", KEY)[2], longest)
        self.assertEqual(self.ask("PUT", KEY, longest[:-1], If_Match=tag)[0], 200)
        self.refused(self.ask("PUT", BASE + "/b", longest + b"x", If_None_Match="*"), 413, "ETOOBIG")
        self.refused(self.ask("PUT", BASE + "/b", iter([longest, b"x"]), If_None_Match="*"), 413, "ETOOBIG")
        self.assertEqual(self.ask("PUT", BASE + "/chunks", iter([b"x", b"y" * MIB]), If_None_Match="*")[0], 201)
        self.refused(self.ask("GET", BASE + "/b"), 404, "ABSENT")
        self.create(b"", BASE + "/" + "k" * 200)
        for name in ("", "a/", "a//b", "%2e%2e/b", ".a", "a%20b", "b%00c", "k" * 1025):
            self.refused(self.ask("GET", f"{BASE}/{name}"), 400, "EINVAL")
            self.refused(self.ask("PUT", f"{BASE}/{name}", b"x", If_None_Match="*"), 400, "EINVAL")
        for path in ("/", "/v1", "/v1/storages", "/v1/other/a", "/v2/storage/a"):
            self.refused(self.ask("GET", path), 404, "NOT_FOUND")
        for bad in ("0", "x", "-1", "99999999999999999999"):
            self.refused(self.ask("GET", KEY, Hadb_Deadline_Ms=bad), 400, "EINVAL")
        self.assertEqual(self.ask("GET", KEY, Hadb_Deadline_Ms="3600000")[0], 200, "more than the service waits")

    def test_the_token_is_needed_for_everything(self):
        self.create()
        for token in (None, "wrong", TOKEN + "x", TOKEN[:-1]):
            for method, path, body in (("GET", KEY, None), ("PUT", KEY, b"x" * MIB), ("GET", BASE, None),
                                       ("POST", BASE, b'{"delete":["log/1"]}'), ("GET", "/", None)):
                reply = self.ask(method, path, body, token=token)
                self.refused(reply, 401, "EAUTH")
                self.assertEqual(reply[1]["WWW-Authenticate"], "Bearer")
        self.assertEqual(self.ask("GET", KEY)[2], b"one")


class Connections(Refusals, unittest.TestCase):
    """What clients do that do not finish."""

    def setUp(self):
        self.service = storage_server(self)
        self.ask = self.service.ask

    def begun(self, length, sent=b"", key="begun"):
        """A connection with a PUT of that length under way: the server has looked at its head."""
        host, port = self.service.address.split(":")
        connection = socket.create_connection((host, int(port)), timeout=20)
        self.addCleanup(connection.close)
        connection.sendall(f"PUT {BASE}/{key} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
                           f"If-None-Match: *\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n".encode())
        self.assertIn(b" 100 ", connection.recv(4096))
        connection.sendall(sent)
        return connection

    def test_half_a_body_is_never_written(self):
        self.begun(10, b"12345").close()
        self.begun(10, b"123456789").close()
        whole = self.begun(10, b"1234567890")
        self.assertIn(b" 201 ", whole.recv(4096))
        self.assertEqual(self.ask("GET", BASE + "/begun")[2], b"1234567890")

    def test_memory_for_bodies_has_a_limit(self):
        waiting = [self.begun(64 * MIB, b"x", f"k{n}") for n in range(16)]
        self.refused(self.ask("PUT", KEY, b"x", If_None_Match="*"), 503, "EBUSY")
        self.refused(self.ask("GET", KEY), 404, "ABSENT")  # what takes none goes on
        for connection in waiting:
            connection.close()
        wait_for("memory given back", 10, lambda: self.ask("PUT", KEY, b"x", If_None_Match="*")[0] == 201)
        self.assertEqual(self.ask("GET", KEY)[2], b"x")

    def test_connections_have_a_limit(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        host, port = self.service.address.split(":")
        held = [socket.create_connection((host, int(port)), timeout=20) for _ in range(1024)]
        self.addCleanup(lambda: [connection.close() for connection in held])
        with self.assertRaises((OSError, http.client.HTTPException)):
            self.ask("GET", KEY)
        for connection in held:
            connection.close()

        def answers():
            try:
                return self.ask("GET", KEY)[0] == 404
            except (OSError, http.client.HTTPException):
                return False

        wait_for("room for another connection", 20, answers)

    def test_a_signal_lets_what_runs_finish(self):
        running = self.begun(10, key="running")
        kept = http.client.HTTPConnection(self.service.address, timeout=20)
        self.addCleanup(kept.close)

        def status():
            kept.request("GET", KEY, headers={"Authorization": "Bearer " + TOKEN})
            self.reply = kept.getresponse()
            self.reply.read()
            return self.reply.status

        self.assertEqual(status(), 404)
        self.service.process.send_signal(signal.SIGTERM)
        wait_for("no new requests", 10, lambda: status() == 503)
        self.assertEqual(self.reply.headers["Connection"], "close")
        running.sendall(b"1234567890")
        self.assertIn(b" 201 ", running.recv(4096))
        self.assertEqual(self.service.process.wait(20), 0)
        with self.assertRaises(ConnectionRefusedError):
            self.ask("GET", KEY)

    def test_a_signal_does_not_wait_for_ever(self):
        self.begun(10, b"12345")
        self.service.process.send_signal(signal.SIGTERM)
        self.assertEqual(self.service.process.wait(20), 0)


class Behind(Refusals, unittest.TestCase):
    """Other stores behind it."""

    def test_a_store_that_is_down_is_a_failure_of_the_server(self):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            ask = storage_server(self, f"http://127.0.0.1:{unused.getsockname()[1]}").ask
            self.refused(ask("GET", KEY), 503, "EUNAVAIL")
            self.refused(ask("PUT", KEY, b"x", If_None_Match="*"), 503, "EUNAVAIL")
            self.refused(ask("GET", BASE), 503, "EUNAVAIL")
            self.refused(ask("POST", BASE, b'{"delete":["k"]}'), 503, "EUNAVAIL")

    def test_a_store_that_does_not_answer_is_unknown(self):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            ask = storage_server(self, f"http://127.0.0.1:{silent.getsockname()[1]}").ask
            self.refused(ask("PUT", KEY, b"x", If_None_Match="*", Hadb_Deadline_Ms="300"), 504, "ETIMEDOUT")
            self.refused(ask("GET", KEY, Hadb_Deadline_Ms="300"), 504, "ETIMEDOUT")

    def test_one_stands_behind_another(self):
        inner = storage_server(self)
        outer = storage_server(self, f"http://{TOKEN}@{inner.address}?prefix=p")
        tag = outer.ask("PUT", KEY, b"one", If_None_Match="*")[1]["ETag"]
        self.assertEqual(outer.ask("GET", KEY)[2], b"one")
        self.assertEqual(inner.ask("GET", BASE + "/p/log/1")[2], b"one")
        self.assertEqual(outer.ask("PUT", KEY, b"two", If_Match=tag)[0], 200)
        self.assertEqual(outer.ask("PUT", KEY, b"x", If_Match=tag)[0], 412)
        self.assertEqual(json.loads(outer.ask("GET", BASE)[2])["objects"], [{"key": "log/1", "size": 3}])

    def test_nodes_keep_a_history_in_it(self):
        folder = tempfile.mkdtemp(prefix="hadb-history-")
        self.addCleanup(shutil.rmtree, folder, True)
        service = storage_server(self, "file://" + folder)
        store = f"http://{TOKEN}@{service.address}?prefix=app"
        with Cluster(HADB, ("n1", "n2", "n3"), ("app=kv",), store=store) as cluster:
            leader = cluster.leader()
            self.assertEqual(leader.client.kv("PUT", "app", "k", "v").status, 200)
            leader.kill()
            survivors = [node for node in cluster.nodes if node is not leader]
            for node in survivors:
                self.assertEqual(node.client.kv("GET", "app", "k").body, b"v")
            self.assertEqual(survivors[0].client.kv("PUT", "app", "l", "w").status, 200)
        self.assertTrue(os.listdir(os.path.join(folder, "app")))
        done = subprocess.run([HADB, "verify", "--store", store, "--db", "app"], capture_output=True, text=True,
                              timeout=60, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("2 keys", done.stdout)


class BadInput(CommandLine, unittest.TestCase):
    verb, option = "storage-server", "--store"


if __name__ == "__main__":
    main()
