#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Storage that lost something: each object of a real database is deleted in turn, and nobody takes what is left for all.

verify has to name the object. restore has to name it, or to give back everything without it. A node that starts with an
empty folder has to stop and name it, or to serve everything; never may it write behind the hole. A node that has seen
more than storage shows stops, too. Only the very last object of the log can vanish without a trace.
"""
import json
import os
import shutil
import tempfile
import unittest

from e2e import HADB, Failure, Cluster, main, wait_for

CORRUPT = 7


def keys(store):
    out = []
    for folder, _, names in os.walk(store):
        out += [os.path.relpath(os.path.join(folder, name), store) for name in names]
    return sorted(key for key in out if not key.startswith("probe/") and "/." not in f"/{key}")


class Loss(unittest.TestCase):
    """One history: three terms, a snapshot with slots behind it, an entry with its body in a blob."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="hadb-loss-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, True)
        cls.whole = os.path.join(cls.folder, "whole")
        cluster = Cluster(HADB, ("n1",), ("app=kv,snapshot-slots=8",), ttl_ms=500)
        cls.addClassCleanup(cluster.close)
        node = cluster.nodes[0]
        cls.node_data = os.path.join(cls.folder, "n1")
        cls.node_data_early = os.path.join(cls.folder, "n1-early")
        for term in range(3):
            node.start()
            cluster.leader()
            for number in range(6):
                body = os.urandom(5 << 20) if term == 2 and number == 1 else b"x" * 100
                reply = node.client.kv("PUT", "app", f"{term}/{number}", body)
                assert reply.status == 200, reply
            if term == 1:
                wait_for("a snapshot", 20, lambda: any("/snap/" in key for key in keys(f"{cluster.folder}/store")))
            assert node.stop()[0] == 0
            if term == 1:
                shutil.copytree(node.data, cls.node_data_early)
        shutil.copytree(f"{cluster.folder}/store", cls.whole)
        shutil.copytree(node.data, cls.node_data)
        cls.all = cls.run_tool(cls.whole, "verify", folder=cls.folder)[1]
        cls.log = [key for key in keys(cls.whole) if "/log/" in key]
        cls.boundary = cls.all["snapshot_slot"]

    @staticmethod
    def run_tool(store, verb, *more, folder):
        cluster = Cluster(HADB, (), ("app=kv",))
        try:
            if verb == "restore":
                more += ("--output", os.path.join(cluster.folder, "out"))
            done = cluster.run(verb, "--store", f"file://{store}", "--db", "app", "--json", *more)
            text = done.stdout if done.returncode == 0 else done.stderr
            return done.returncode, json.loads(text) if done.returncode == 0 else text.decode()
        finally:
            cluster.close()

    def copy_without(self, *missing):
        store = os.path.join(self.folder, "store")
        shutil.rmtree(store, ignore_errors=True)
        shutil.copytree(self.whole, store)
        for key in missing:
            os.remove(os.path.join(store, key))
        return store

    def slot(self, key):
        return int(key.rsplit("/", 1)[1], 16)

    def collected(self, key):
        """A DATA slot that the snapshot covers, not yet swept: nobody needs it."""
        if "/log/" not in key or self.slot(key) > self.boundary:
            return False
        with open(os.path.join(self.whole, key), "rb") as file:
            return file.read(7)[6] == 1

    def test_the_history_has_what_the_tests_need(self):
        self.assertEqual(self.all["txid"], 18)
        self.assertGreater(self.boundary, 0)
        self.assertLess(self.boundary, self.all["slot"])
        self.assertTrue([key for key in keys(self.whole) if "/blob/" in key])

    def test_verify_names_each_object_that_is_missing(self):
        for key in keys(self.whole):
            if self.collected(key) or key == self.log[-1]:
                continue
            with self.subTest(key=key):
                code, text = self.run_tool(self.copy_without(key), "verify", folder=self.folder)
                self.assertNotEqual(code, 0, text)
                self.assertIn(key, text)

    def test_restore_names_what_is_missing_or_gives_everything_back(self):
        for key in keys(self.whole):
            if key == self.log[-1]:
                continue
            with self.subTest(key=key):
                code, text = self.run_tool(self.copy_without(key), "restore", folder=self.folder)
                if code == 0:
                    self.assertEqual((text["txid"], text["digest"]), (self.all["txid"], self.all["digest"]))
                else:
                    self.assertIn(key, text)

    def test_restore_to_a_slot_goes_up_to_a_hole(self):
        data = [key for key in self.log if self.slot(key) > self.boundary]
        hole = data[len(data) // 2]
        store = self.copy_without(hole)
        code, text = self.run_tool(store, "restore", folder=self.folder)
        self.assertEqual(code, CORRUPT, text)
        before = self.slot(hole) - 1
        self.assertIn(f"--to {before}", text)
        code, result = self.run_tool(store, "restore", "--to", str(before), folder=self.folder)
        self.assertEqual(code, 0, result)
        self.assertEqual(result["slot"], before)
        self.assertEqual(result["txid"], before)

    def test_restore_to_a_slot_that_cannot_be_had_names_the_nearest(self):
        swept = self.copy_without(*[key for key in self.log if self.collected(key)])
        last = self.all["slot"]
        for slot, nearest in ((last + 5, last), (1, self.boundary), (self.boundary - 1, self.boundary)):
            code, text = self.run_tool(swept, "restore", "--to", str(slot), folder=self.folder)
            self.assertNotEqual(code, 0, text)
            self.assertRegex(text, rf'slot {slot} .*\b{nearest}(\n|"|$)')
        for slot in (self.boundary, last - 1, last):
            code, result = self.run_tool(swept, "restore", "--to", str(slot), folder=self.folder)
            self.assertEqual(code, 0, result)
            self.assertEqual(result["slot"], slot)

    def node_over(self, store, data=None):
        """A node with a copy of this folder, or none, and nobody else. What it made of it: its status."""
        cluster = Cluster(HADB, ("n9" if data is None else "n1",), ("app=kv,snapshot-slots=1000000",), ttl_ms=500,
                          store=f"file://{store}")
        self.addCleanup(cluster.close)
        node = cluster.nodes[0]
        if data:
            shutil.copytree(data, node.data)
        try:
            node.start()
        except Failure:
            return None, node.last_words()
        status = wait_for("a decision", 20, lambda: next(
            (view for view in [node.status("app")] if view and view["role"] in ("leader", "halted")), None), 0.05)
        reply = node.client.kv("GET", "app", "0/0", deadline_ms=1000)
        if status["role"] == "halted":
            self.assertEqual(reply.status, 503, reply)
            health = node.client.request("GET", "/healthz")
            self.assertEqual(health.status, 503)
            node.kill()
            return status, reply.body.decode() + health.body.decode()
        node.kill()
        return status, ""

    def test_an_empty_node_never_writes_behind_a_hole(self):
        for key in self.log:
            if self.collected(key) or key == self.log[-1]:
                continue
            with self.subTest(key=key):
                store = self.copy_without(key)
                before = keys(store)
                status, text = self.node_over(store)
                if status and status["role"] == "leader":
                    self.assertEqual(status["txid"], self.all["txid"])
                else:
                    self.assertIn(key, text)
                    self.assertEqual([k for k in keys(store) if "/log/" in k], [k for k in before if "/log/" in k])

    def test_a_node_that_has_seen_more_does_not_go_back(self):
        behind = [key for key in self.log if self.slot(key) > self.boundary]
        for cut in (1, 2, len(behind) // 2):
            with self.subTest(cut=cut):
                store = self.copy_without(*behind[-cut:])
                before = [k for k in keys(store) if "/log/" in k]
                status, text = self.node_over(store, self.node_data)
                self.assertEqual(status["role"], "halted", status)
                self.assertIn(behind[-1], text)
                self.assertIn("rolled back", text)
                self.assertEqual([k for k in keys(store) if "/log/" in k], before)

    def test_a_node_that_was_away_goes_on(self):
        status, text = self.node_over(self.copy_without(), self.node_data_early)
        self.assertEqual(status["role"], "leader", text)
        self.assertEqual(status["txid"], self.all["txid"])

    def test_verify_and_restore_name_a_file_that_is_no_object_and_the_next_step(self):
        key = [key for key in self.log if self.slot(key) > self.boundary][0]
        manifest = next(key for key in keys(self.whole) if key.endswith("/manifest"))
        damages = {
            "pipe": (key, lambda path: (os.remove(path), os.mkfifo(path)), "its file is a pipe"),
            "huge": (key, lambda path: os.truncate(path, 5 << 30), f"the file has {5 << 30} bytes"),
            "short": (key, lambda path: os.truncate(path, 70), "shorter than its header"),
            "manifest": (manifest, lambda path: os.truncate(path, 0), "shorter than its header"),
        }
        for name, (key, damage, cause) in damages.items():
            for verb in ("verify", "restore"):
                with self.subTest(damage=name, verb=verb):
                    store = self.copy_without()
                    damage(os.path.join(store, key))
                    code, text = self.run_tool(store, verb, folder=self.folder)
                    self.assertEqual(code, CORRUPT, text)
                    self.assertEqual(text.count(key), 1, text)
                    self.assertIn(cause, text)
                    self.assertIn("put it back from a copy", text)

    def test_restore_into_the_store_or_a_data_folder_is_refused(self):
        store = self.copy_without()
        for inside in (store, os.path.join(store, "names"), self.node_data):
            out = os.path.join(inside, "new", "out")
            cluster = Cluster(HADB, (), ("app=kv",))
            self.addCleanup(cluster.close)
            done = cluster.run("restore", "--store", f"file://{store}", "--db", "app", "--output", out)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(b"lies inside", done.stderr)
            self.assertFalse(os.path.exists(os.path.dirname(out)))


class Unmounted(unittest.TestCase):
    """The folder of the store is exchanged for an empty one, as when its disk is unmounted, under a live leader."""

    def test_nothing_is_acknowledged_or_written_until_the_folder_is_back(self):
        cluster = Cluster(HADB, ("n1",), ("app=kv",), ttl_ms=500)
        self.addCleanup(cluster.close)
        node = cluster.nodes[0]
        node.start()
        cluster.leader()
        self.assertEqual(node.client.kv("PUT", "app", "before", b"1").status, 200)
        store, kept = f"{cluster.folder}/store", f"{cluster.folder}/kept"
        os.rename(store, kept)
        os.mkdir(store)
        for number in range(3):
            reply = node.client.kv("PUT", "app", f"lost{number}", b"1", deadline_ms=700)
            self.assertIn(reply.status, (503, 504), reply)
        wait_for("a red health", 20, lambda: node.client.request("GET", "/healthz").status == 503)
        self.assertEqual(os.listdir(store), [])
        os.rmdir(store)
        os.rename(kept, store)
        wait_for("writes", 30, lambda: node.client.kv("PUT", "app", "after", b"1").status == 200)
        self.assertEqual(node.stop()[0], 0)
        done = cluster.run("verify", "--store", f"file://{store}", "--db", "app")
        self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    main()
