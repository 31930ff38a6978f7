# SPDX-License-Identifier: Apache-2.0
"""What the end-to-end tests share. Each test file is run as: test_x.py PATH-OF-hadb [unittest options]."""
import os
import socket
import sys
import unittest

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "scripts"))
from cluster import (Client, Cluster, Failure, Node, Reply, hadb_headers, request_id,  # noqa: E402,F401
                     wait_for)

HADB = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 and __name__ != "__main__" else ""


class ClusterTest(unittest.TestCase):
    """One cluster for all tests of a class; each test uses keys of its own."""

    names = ("n1", "n2", "n3")
    databases = ("app=kv",)
    options = {}

    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(HADB, cls.names, cls.databases, **cls.options)
        cls.addClassCleanup(cls.cluster.close)
        for node in cls.cluster.nodes:
            node.start()
        cls.cluster.leader()

    def setUp(self):
        self.client = self.cluster.nodes[0].client

    def followers(self):
        leader = self.cluster.leader()
        return [node for node in self.cluster.nodes if node is not leader]

    def refused(self, reply, status, error, *words):
        """The answer has this status and a JSON body with this error, whose message names things."""
        self.assertEqual(reply.status, status, reply)
        body = reply.json()
        self.assertEqual(set(body), {"error", "message"})
        self.assertEqual(body["error"], error, body)
        self.assertTrue(body["message"])
        for word in words:
            self.assertIn(word, body["message"])
        return body["message"]

    def put(self, key, value, query="", client=None, **headers):
        reply = (client or self.client).kv("PUT", "app", key, value, query, **headers)
        self.assertEqual(reply.status, 200, reply)
        return reply

    def get(self, key, client=None, **headers):
        return (client or self.client).kv("GET", "app", key, **headers)


def raw(address, data, seconds=10):
    """Sends bytes as they are; everything that comes back until the other side closes or is silent."""
    host, port = address.rsplit(":", 1)
    answer = b""
    with socket.create_connection((host, int(port)), timeout=seconds) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                answer += part
        except OSError:
            pass
    return answer


def main():
    unittest.main(verbosity=2)
