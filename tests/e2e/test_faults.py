#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Nodes that end, die, sleep, come back or lose their disk, under writers that remember every acknowledgement.

Random faults in numbers are the business of the benchmarks (test_bench.py); here stand the cases that have a name.
"""
import glob
import os
import shutil
import signal
import subprocess
import threading
import time
import unittest

from e2e import Client, Cluster, HADB, main, wait_for
from load import Load, check


class FaultTest(unittest.TestCase):
    names = ("n1", "n2", "n3")
    options = {"ttl_ms": 1000}

    def setUp(self):
        self.cluster = Cluster(HADB, self.names, **self.options)
        self.addCleanup(self.cluster.close)
        for node in self.cluster.nodes:
            node.start()
        self.cluster.leader()

    def check(self, load):
        check(self, load)

    def healthy(self):
        for node in self.cluster.nodes:
            for path in ("/healthz", "/readyz"):
                wait_for(f"{path} of {node.name}", 10,
                         lambda node=node, path=path: node.client.request("GET", path).status == 200)


class Ends(FaultTest):
    def test_sigterm_hands_over_without_a_failed_write(self):
        with Load(self.cluster) as load:
            for _ in range(3):
                leader = self.cluster.leader()
                code, seconds = leader.stop()
                self.assertEqual(code, 0)
                self.assertLess(seconds, 6)
                load.more()
                leader.start()
                self.cluster.leader()
        self.check(load)
        self.assertLess(load.longest, 3)

    def test_everything_is_there_after_all_nodes_were_killed_at_once(self):
        with Load(self.cluster) as load:
            load.more(100)
            for node in self.cluster.nodes:
                node.signal(signal.SIGKILL)
            load.stop.set()
        for node in self.cluster.nodes:
            node.wait(10)
            node.start()
        self.cluster.leader()
        load.errors.clear()  # nobody was there to answer
        self.check(load)
        self.healthy()

    def test_a_rolling_restart_loses_nothing(self):
        with Load(self.cluster) as load:
            for node in self.cluster.nodes:
                self.assertEqual(node.stop()[0], 0)
                node.start()
                self.cluster.leader()
                load.more()
        self.check(load)

    def test_the_last_node_serves_alone(self):
        with Load(self.cluster) as load:
            for _ in range(2):
                old = self.cluster.leader()
                old.kill()
                self.cluster.new_leader(old)
                load.more()
        self.check(load)


class Sleeps(FaultTest):
    def test_a_leader_that_slept_follows_by_itself(self):
        with Load(self.cluster) as load:
            for _ in range(2):
                old = self.cluster.leader()
                old.signal(signal.SIGSTOP)
                self.cluster.new_leader(old)
                load.more(20)
                old.signal(signal.SIGCONT)
                self.cluster.leader()
        self.check(load)
        self.healthy()

    def test_an_idle_leader_that_slept_notices_without_any_write(self):
        self.cluster.nodes[0].client.kv("PUT", "app", "k", b"1")
        old = self.cluster.leader()
        old.signal(signal.SIGSTOP)
        new = self.cluster.new_leader(old)
        old.signal(signal.SIGCONT)
        wait_for("the old leader as follower", 10,
                 lambda: (old.status("app") or {}).get("role") == "follower")
        self.assertEqual(self.cluster.leader(), new)
        self.healthy()

    def test_a_reader_at_the_sleeper_never_sees_the_past(self):
        client = self.cluster.nodes[0].client
        client.kv("PUT", "app", "k", b"old")
        old = self.cluster.leader()
        old.signal(signal.SIGSTOP)
        new = self.cluster.new_leader(old)
        self.assertEqual(new.client.kv("PUT", "app", "k", b"new").status, 200)
        answers = []

        def read():
            answers.append(Client(old.address).once("GET", "/v1/db/app/kv/k",
                                                    headers={"Hadb-Read": "linearizable"}))

        readers = [threading.Thread(target=read) for _ in range(4)]
        for reader in readers:
            reader.start()
        old.signal(signal.SIGCONT)
        for reader in readers:
            reader.join(20)
        self.assertEqual(len(answers), 4)
        for reply in answers:
            self.assertIn(reply.status, (200, 503), reply)
            self.assertTrue(reply.status == 503 or reply.body == b"new", reply)

    def test_a_follower_that_slept_catches_up(self):
        with Load(self.cluster) as load:
            leader = self.cluster.leader()
            sleeper = next(node for node in self.cluster.nodes if node is not leader)
            sleeper.signal(signal.SIGSTOP)
            load.more(100)
            sleeper.signal(signal.SIGCONT)
            load.more()
        self.check(load)
        self.assertEqual(self.cluster.leader(), leader)


class Disks(FaultTest):
    options = {"ttl_ms": 1000, "databases": ("app=kv,snapshot-slots=50,grace-ms=200",)}

    def test_a_node_without_its_disk_restores_the_newest_snapshot_and_follows_on(self):
        with Load(self.cluster) as load:
            load.more(100)
            log = f"{self.cluster.folder}/store/*/*/log"
            wait_for("the first entry to be collected", 20, lambda: load.more(50) or not glob.glob(
                f"{log}/{1:016x}/{2:016x}"))
            node = self.cluster.leader()
            node.kill()
            shutil.rmtree(node.data)
            load.more()
            node.start()
            self.cluster.leader()
            load.more()
        self.check(load)
        snapshots = glob.glob(f"{self.cluster.folder}/store/*/*/snap/*")
        self.assertTrue(snapshots)
        metrics = node.client.request("GET", "/v1/metrics").body.decode()
        self.assertRegex(metrics, r"(?m)^restores [1-9]")
        done = subprocess.run([HADB, "verify", "--store", f"file://{self.cluster.folder}/store", "--db", "app"],
                              capture_output=True, timeout=30, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_a_new_node_joins_a_running_cluster(self):
        with Load(self.cluster) as load:
            load.more(100)
            late = Cluster(HADB, ("n4",), **self.options)
            self.addCleanup(late.close)
            joining = late.nodes[0]
            joining.args = [text.replace(late.folder, self.cluster.folder) for text in joining.args]
            joining.data = os.path.join(self.cluster.folder, "n4")
            joining.start()
            self.cluster.nodes.append(joining)
            self.addCleanup(joining.kill)
            self.cluster.leader()
            load.more()
        self.check(load)
        reply = self.cluster.leader().client.request("POST", "/v1/db/app/handoff", b'{"to":"n4"}')
        self.assertEqual(reply.status, 200, reply)
        wait_for("n4 as leader", 10, lambda: self.cluster.leader().name == "n4")


if __name__ == "__main__":
    main()
