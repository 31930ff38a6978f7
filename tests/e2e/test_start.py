#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A node that starts denies nothing it is about to open; clients that only hold connections keep nobody else out."""
import http.server
import resource
import socket
import subprocess
import threading
import time
import unittest

from e2e import Client, Cluster, HADB, main, wait_for

FAILED, ABSENT, UNAVAILABLE = 1, 3, 5
CROWD = 1100
FILES = 1024


class Opening(unittest.TestCase):
    """40 databases, so that opening takes a while."""

    names = [f"d{i:02}" for i in range(40)]

    def watch(self, node, stop, seen, wrong):
        """What clients and balancers see while the node starts."""
        while not stop.is_set():
            alive = Client(node.address).once("GET", "/healthz")
            ready = Client(node.address).once("GET", "/readyz")
            status = Client(node.address).once("GET", "/v1/status")
            value = Client(node.address).once("GET", f"/v1/db/{self.names[-1]}/kv/k")
            if ready.status == 200 and status.status == 200 and len(status.json()["databases"]) < len(self.names):
                wrong.append(f"ready with {len(status.json()['databases'])} databases")
            if alive.status not in (0, 200):
                wrong.append(alive)
            if value.status not in (0, 200, 503) or (value.status == 503 and not value.header("Retry-After")):
                wrong.append(value)
            if value.status == 503:
                seen.append(value)

    def test_a_node_that_starts_again_denies_none_of_its_databases(self):
        with Cluster(HADB, ("n1",), [f"{name}=kv" for name in self.names]) as cluster:
            node = cluster.nodes[0]
            wait_for("readiness", 20, lambda: node.client.request("GET", "/readyz").status == 200)
            for name in self.names:
                self.assertEqual(node.client.kv("PUT", name, "k", b"1").status, 200)
            node.kill()
            stop, seen, wrong = threading.Event(), [], []
            watcher = threading.Thread(target=self.watch, args=(node, stop, seen, wrong), daemon=True)
            watcher.start()
            node.start()
            wait_for("readiness", 20, lambda: node.client.request("GET", "/readyz").status == 200)
            stop.set()
            watcher.join(20)
            self.assertEqual(wrong, [])
            self.assertEqual(node.client.kv("GET", self.names[-1], "k").status, 200)
            self.assertEqual(node.client.kv("GET", "never", "k").status, 404)


class Crowd(unittest.TestCase):
    def setUp(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard != resource.RLIM_INFINITY and hard < CROWD + FILES:
            self.skipTest(f"the limit of open files is {hard}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, CROWD + FILES), hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        self.crowd = []
        self.addCleanup(lambda: [one.close() for one in self.crowd])

    def connect(self, address):
        host, port = address.rsplit(":", 1)
        try:
            self.crowd.append(socket.create_connection((host, int(port)), timeout=2))
        except OSError:
            pass  # the backlog is full

    def test_idle_connections_to_the_leader_stop_no_write(self):
        cluster = Cluster(HADB, ("n1", "n2"), ttl_ms=1000)
        self.addCleanup(cluster.close)
        for node in cluster.nodes:  # no more descriptors than many systems give, and no way to get more
            node.args = ["sh", "-c", f'ulimit -n {FILES} && exec "$@"', "sh", *node.args]
            node.start()
        leader = cluster.leader()
        follower = next(node for node in cluster.nodes if node is not leader)
        for _ in range(CROWD):
            self.connect(leader.address)
        until, number = time.monotonic() + 4, 0  # several TTLs
        while time.monotonic() < until:
            reply = follower.client.kv("PUT", "app", f"k{number}", b"1", deadline_ms=3000)
            self.assertEqual(reply.status, 200, (number, reply))
            self.assertEqual(Client(leader.address, timeout=5).once("GET", "/healthz").status, 200)
            number += 1
            time.sleep(0.02)
        self.assertIs(cluster.leader(), leader)


class Stranger(http.server.BaseHTTPRequestHandler):
    """Something that is no hadb node, on the address of one."""

    body = b""

    def do_GET(self):
        self.send_response(404)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_):
        pass


class Answers(unittest.TestCase):
    def get(self, address, *more):
        return subprocess.run([HADB, "get", "k", "--db", "app", "--node", address, *more], capture_output=True,
                              timeout=30, check=False)

    def test_only_a_node_can_say_that_a_key_is_absent(self):
        for body, code in ((b"<html>not found</html>", FAILED), (b"", FAILED), (b"[]", FAILED), (b"{}", FAILED),
                           (b'{"error":"EINVAL","message":"no such path"}', FAILED),
                           (b'{"error":"ABSENT"}', FAILED), (b'{"error":7,"message":"x"}', FAILED),
                           (b'{"error":"ABSENT","message":"no such key"}', ABSENT)):
            handler = type("Handler", (Stranger,), {"body": body})
            with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
                thread = threading.Thread(target=server.serve_forever, daemon=True)
                thread.start()
                done = self.get(f"127.0.0.1:{server.server_port}")
                server.shutdown()
                thread.join(10)
            self.assertEqual((done.returncode, done.stdout), (code, b""), (body, done.stderr))

    def test_a_read_without_an_answer_is_unavailable_and_in_time(self):
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            started = time.monotonic()
            done = self.get(f"127.0.0.1:{silent.getsockname()[1]}", "--deadline-ms", "700")
            seconds = time.monotonic() - started
        self.assertEqual(done.returncode, UNAVAILABLE, done.stderr)
        self.assertNotIn(b"unknown", done.stderr)
        self.assertLess(seconds, 2)


if __name__ == "__main__":
    main()
