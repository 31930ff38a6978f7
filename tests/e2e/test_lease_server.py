#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""hadb lease-server: what docs/lease-http.md says of each request, and what the command line refuses. The contract suite of lease
stores runs over it elsewhere."""
import json
import signal
import socket
import time
import unittest

from e2e import HADB, Cluster, main
from rest import TOKEN, CommandLine, Refusals, Service


def lease_server(test, lease="mem:"):
    return Service(test, "lease-server", "--lease", lease)


KEY = "/v1/lease/node/a"


class Requests(Refusals, unittest.TestCase):
    def setUp(self):
        self.service = lease_server(self)
        self.ask = self.service.ask

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
        for bad in ("0", "x", "-1", "99999999999999999999"):
            self.refused(self.ask("GET", KEY, Hadb_Deadline_Ms=bad), 400, "EINVAL")
        self.assertEqual(self.ask("GET", KEY, Hadb_Deadline_Ms="3600000")[0], 200, "more than the service waits")
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

    def test_a_held_read_is_answered_by_a_change(self):
        first = self.create()
        thread, answers = self.in_background("GET", KEY + "?wait_ms=20000", If_None_Match=first)
        second = self.ask("PUT", KEY, b"two", If_Match=first)[1]["ETag"]
        thread.join(10)
        self.assertEqual([(s, h["ETag"], b) for s, h, b in answers], [(200, second, b"two")])
        thread, answers = self.in_background("GET", "/v1/lease/later?wait_ms=20000")
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
        thread, answers = self.in_background("GET", KEY + "?wait_ms=50000", If_None_Match=first)
        self.service.process.send_signal(signal.SIGTERM)
        self.assertEqual(self.service.process.wait(10), 0)
        thread.join(10)
        self.assertFalse(thread.is_alive())


class Behind(unittest.TestCase):
    """Other stores behind it."""

    def test_a_store_that_is_down_is_a_failure_of_the_server(self):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            service = lease_server(self, f"http://127.0.0.1:{unused.getsockname()[1]}")
            status, _, body = service.ask("GET", KEY)
            self.assertEqual((status, json.loads(body)["error"]), (503, "EUNAVAIL"))
            status, _, body = service.ask("PUT", KEY, b"x", If_None_Match="*")
            self.assertEqual((status, json.loads(body)["error"]), (503, "EUNAVAIL"))

    def test_one_stands_behind_another(self):
        inner = lease_server(self)
        outer = lease_server(self, f"http://{TOKEN}@{inner.address}")
        tag = outer.ask("PUT", KEY, b"one", If_None_Match="*")[1]["ETag"]
        self.assertEqual(outer.ask("GET", KEY)[2], b"one")
        self.assertEqual(inner.ask("GET", KEY)[2], b"one")
        self.assertEqual(outer.ask("PUT", KEY, b"two", If_Match=tag)[0], 200)
        self.assertEqual(outer.ask("PUT", KEY, b"x", If_Match=tag)[0], 412)

    def test_nodes_find_each_other_through_it(self):
        service = lease_server(self)
        with Cluster(HADB, ("n1", "n2"), ("app=kv",), lease=f"http://{TOKEN}@{service.address}") as cluster:
            leader = cluster.leader()
            self.assertEqual(leader.client.kv("PUT", "app", "k", "v").status, 200)
            leader.kill()
            survivor = next(node for node in cluster.nodes if node is not leader)
            self.assertEqual(survivor.client.kv("GET", "app", "k").body, b"v")


class BadInput(CommandLine, unittest.TestCase):
    verb, option = "lease-server", "--lease"


if __name__ == "__main__":
    main()
