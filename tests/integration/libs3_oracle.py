#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a node wrote into a real S3 server, read by somebody else's client (libs3_reader.c): libs3_oracle.py HADB LIBS3_READER

The files that it makes are a store of their own: hadb verify finds all of it in order, and a node that has nothing else serves every value.
"""
import os
import re
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [os.path.join(ROOT, "scripts")]
import minio  # noqa: E402
from cluster import Cluster, wait_for  # noqa: E402

HADB, READER = (os.path.abspath(path) for path in sys.argv[1:3])
MANY = 1100  # more than one page of a listing


class Oracle(unittest.TestCase):
    def test_another_client_reads_what_ours_wrote(self):
        server = SERVER
        env = minio.environment("", server.credentials)
        values = {f"k{number:04d}": b"%d" % number for number in range(MANY)}
        values["large"] = os.urandom(20 << 20)  # goes in parts
        with Cluster(HADB, ("n1",), ("app=kv,snapshot-slots=400,grace-ms=600000",), store=server.url, env=env) as cluster:
            client = cluster.nodes[0].client
            cluster.leader()
            for key, value in values.items():
                self.assertEqual(client.kv("PUT", "app", key, value, deadline_ms=60000).status, 200)
            wait_for("a snapshot", 30, lambda: re.search(
                rb"(?m)^snapshots_published [1-9]", client.request("GET", "/v1/metrics").body))
            self.assertEqual(cluster.nodes[0].stop()[0], 0)
        folder = tempfile.TemporaryDirectory(prefix="hadb-libs3-")
        self.addCleanup(folder.cleanup)
        read = subprocess.run([READER, f"127.0.0.1:{server.port}", minio.BUCKET, "t", folder.name], env=env,
                              capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual(read.returncode, 0, read.stderr)
        objects, size = map(int, re.fullmatch(r"(\d+) objects, (\d+) bytes\n", read.stdout).groups())
        self.assertGreater(objects, 1000)
        self.assertGreater(size, len(values["large"]))
        store = f"file://{folder.name}"
        verified = subprocess.run([HADB, "verify", "--store", store, "--db", "app"], capture_output=True, text=True,
                                  timeout=60, check=False)
        self.assertEqual(verified.returncode, 0, verified.stderr)
        with Cluster(HADB, ("n2",), store=store) as cluster:
            cluster.leader()
            for key, value in values.items():
                reply = cluster.nodes[0].client.kv("GET", "app", key)
                self.assertEqual((reply.status, reply.body == value), (200, True), key)


if __name__ == "__main__":
    SERVER = minio.Minio()  # here, so that a missing one is a skip of the whole
    try:
        unittest.main(argv=sys.argv[:1], verbosity=2)
    finally:
        SERVER.close()
