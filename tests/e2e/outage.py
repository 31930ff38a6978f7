# SPDX-License-Identifier: Apache-2.0
"""Three nodes over real servers that fail: what people are told meanwhile, and that all goes on by itself afterwards.

A server is one of tests/support/with_lease.py, or the scripted S3 server. Nodes are never restarted here, unless a test says so.
"""
import os
import subprocess
import sys
import time
import unittest

from e2e import HADB, Cluster, Failure, ROOT, wait_for
from load import Load, check

sys.path.insert(0, os.path.join(ROOT, "tests", "support"))
import minio  # noqa: E402
import with_lease  # noqa: E402,F401

BACK_S_MAX = 20  # from the end of a fault to writes, and to nodes that are well; measured: under 2, new keys under 10


MISSING = []


def start(test, kind):
    """A server of its own; where its program is missing, the test is skipped, or fails with REQUIRE_REAL_STORES=1."""
    try:
        server = kind()
    except SystemExit as missing:
        if missing.code != 77:
            raise AssertionError("a real server is missing") from None
        MISSING.append(kind)
        raise unittest.SkipTest("a real server is missing") from None
    test.addCleanup(server.close)
    return server


def s3_env(server):
    """What nodes get beside the URL; nothing else on this host gives credentials."""
    return minio.environment("", server.credentials)


def main():
    """As e2e.main(), but exit code 77 when something was skipped for want of a server."""
    ran = unittest.main(verbosity=2, exit=False)
    sys.exit(1 if not ran.result.wasSuccessful() else 77 if MISSING else 0)


class OutageTest(unittest.TestCase):
    def run_cluster(self, **options):
        cluster = Cluster(HADB, **{"ttl_ms": 2000, **options})
        self.addCleanup(cluster.close)
        for node in cluster.nodes:
            node.start()
        cluster.leader()
        return cluster

    @staticmethod
    def state(node, what):
        """What /v1/status of @node says of "storage" or "lease"."""
        reply = node.client.request("GET", "/v1/status")
        return reply.json()[what] if reply.status == 200 else {"state": "silent"}

    def told(self, node, what, codes, words, ready):
        """@node shows that @what fails, in all places, and why."""
        seen = {}

        def check_state():
            seen.update(self.state(node, what))
            return seen["state"] == "failing" and seen["error"] in codes and words in seen["message"]

        try:
            wait_for(f"{node.name} shows {what} failing with {codes}", 30, check_state)
        except Failure as failure:
            raise Failure(f"{failure}: {seen}") from None
        for path, wanted in (("/healthz", 503), ("/readyz", 200 if ready else 503)):
            reply = node.client.request("GET", path)
            self.assertEqual(reply.status, wanted, (path, reply))
            if wanted == 503:
                self.assertRegex(reply.json()["message"], "storage fails|lease store fails")
        shown = subprocess.run([HADB, "status", "--node", node.address], capture_output=True, timeout=30,
                               check=True).stdout.decode()
        self.assertRegex(shown, rf"(?m)^{what} failing for \d+ s \([A-Z]+\): ")
        with open(node.log, encoding="utf-8") as log:
            self.assertRegex(log.read(), rf'warn  {what}: .*\({seen["error"]}\): trying again')

    def well(self, cluster, what, tend=lambda: None):
        """All nodes are, soon. @tend looks after the server meanwhile."""

        def is_well(node, path):
            tend()
            return node.client.request("GET", path).status == 200

        for node in cluster.nodes:
            for path in ("/healthz", "/readyz"):
                wait_for(f"{path} of {node.name}", BACK_S_MAX,
                         lambda node=node, path=path: is_well(node, path))
            self.assertEqual(self.state(node, what), {"state": "ok"})

    def storage_outage(self, cluster, begin, end, codes, words, hold_s=4.0, writers=4, name=""):
        """Storage fails for a while under writers: nothing is acknowledged, the leader says why, and all goes on."""
        with Load(cluster, writers, patience=90) as load:
            load.more(30)
            processes = [node.process for node in cluster.nodes]
            begin()
            began = time.monotonic()
            leader = wait_for("a node without durable progress", 20, lambda: next(
                (n for n in cluster.nodes if n.client.request("GET", "/readyz").status == 503), None))
            self.told(leader, "storage", codes, words, ready=False)
            silent = len(load.acked)
            while time.monotonic() < began + hold_s:
                time.sleep(0.05)  # the length of the fault is what is tested
            self.assertEqual(len(load.acked), silent, "acknowledged without storage")
            end()
            ended = time.monotonic()
            load.more(20, seconds=BACK_S_MAX)
            back_s = time.monotonic() - ended
            self.well(cluster, "storage")
            ready_s = time.monotonic() - ended
            load.more(50)
        self.assertEqual([node.process for node in cluster.nodes if node.alive], processes)
        check(self, load)
        print(f"{name or self.id()}: {len(load.acked)} writes, 20 more {back_s:.2f} s after the end of the fault, "
              f"all nodes well after {ready_s:.2f} s", file=sys.stderr, flush=True)

    def lease_outage(self, cluster, begin, end, codes, hold_s=4.0, writers=4,
                     tend=lambda: None, name=""):
        """The lease store fails for a while: durable writes go on under the same leader, nodes say so and stay ready."""
        with Load(cluster, writers, patience=30) as load:
            load.more(30)
            leader = cluster.leader()
            before = leader.status("app")
            begin()
            began = time.monotonic()
            for node in cluster.nodes:
                self.told(node, "lease", codes, "", ready=True)
            while time.monotonic() < began + hold_s:
                load.more(10)
            self.assertEqual((leader.status("app")["role"], leader.status("app")["term"]),
                             ("leader", before["term"]), "a lease store that fails has cost a leadership")
            end()
            ended = time.monotonic()
            self.well(cluster, "lease", tend)
            back_s = time.monotonic() - ended
            load.more(30)
        check(self, load)
        self.assertLess(load.longest, 5)
        print(f"{name or self.id()}: {len(load.acked)} writes, the longest {load.longest:.2f} s; all nodes well "
              f"{back_s:.2f} s after the end of the fault", file=sys.stderr, flush=True)
