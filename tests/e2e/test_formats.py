#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a cluster wrote, read by formats.py, which knows nothing but the documents: storage, leases, data folders.

One history with everything in it: three terms and more (a killed leader, a planned hand-off), snapshots, blobs, compressed
and plain entries, batches, conditions that did not hold. All of it must mean what HTTP said before the nodes stopped.
"""
import base64
import json
import os
import random
import shutil
import tempfile
import unittest

import formats
from e2e import HADB, Cluster, main, request_id, wait_for

SEED = int(os.environ.get("HADB_TEST_SEED", "0")) or random.SystemRandom().randrange(1 << 32)


def scan(client, db):
    """All items over HTTP: key -> (value, version)."""
    out, start = {}, ""
    while start is not None:
        reply = client.request("GET", f"/v1/db/{db}/scan?limit=50&start={start}")
        assert reply.status == 200, reply
        body = reply.json()
        for item in body["items"]:
            key, value = (item[name].encode() if name in item else base64.b64decode(item[f"{name}_base64"])
                          for name in ("key", "value"))
            out[key] = (value, item["version"])
        raw = body.get("next_base64") and base64.b64decode(body["next_base64"]) or (body.get("next") or "").encode()
        start = "".join(f"%{byte:02x}" for byte in raw) if raw else None
    return out


class Formats(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        print(f"HADB_TEST_SEED={SEED}", flush=True)
        cls.random = random.Random(SEED)
        cls.cluster = Cluster(HADB, ("n1", "n2", "n3"), ("app=kv,snapshot-slots=8",), ttl_ms=500)
        cls.addClassCleanup(cls.cluster.close)
        for node in cls.cluster.nodes:
            node.start()
        cls.writes = 0
        cls.write(20)
        old = cls.cluster.leader()
        old.kill()
        cls.leader = cls.cluster.new_leader(old)
        cls.write(10)
        old.start()
        for node in cls.cluster.nodes:  # a node that still catches up may refuse to be handed anything
            wait_for(f"{node.name} ready", 20, lambda: node.client.request("GET", "/readyz").status == 200)
        leader = cls.cluster.leader()
        to = next(node.name for node in cls.cluster.nodes if node is not leader)
        reply = leader.client.request("POST", "/v1/db/app/handoff", json.dumps({"to": to}).encode())
        assert reply.status == 200, reply
        cls.write(10)
        cls.store = os.path.join(cls.cluster.folder, "store")
        wait_for("a snapshot", 20, lambda: b"/snap/" in b"".join(
            folder.encode() for folder, _, _ in os.walk(cls.store)))
        cls.shown = scan(cls.cluster.leader().client, "app")
        cls.views = cls.cluster.agree()
        cls.lives = {}
        for node in cls.cluster.nodes:
            with open(os.path.join(cls.cluster.folder, "lease", "node", node.name), "rb") as file:
                cls.lives[node.name] = file.read()
        for node in cls.cluster.nodes:
            assert node.stop()[0] == 0
        cls.database = formats.Database(cls.store, "app")

    @classmethod
    def write(cls, count):
        """Through any node: texts, other bytes, nothing, much, a lot of noise, deletes, batches, refused conditions."""
        values = (b"", b"text", bytes(range(256)), b"again and again " * 500, cls.random.randbytes(5 << 20))
        for _ in range(count):
            cls.writes += 1
            node = cls.cluster.leader()
            client = cls.random.choice([other for other in cls.cluster.nodes if other.alive]).client
            key = cls.random.choice((b"key-%d", b"\xff\x00%d", b"/%d%%")) % (cls.writes % 17)
            value = values[4 if cls.writes in (5, 25) else cls.random.randrange(4)]
            ident = request_id()
            reply = client.kv("PUT", "app", key, value, request_id=ident)
            assert reply.status == 200, (reply, node.name)
            if cls.writes % 4 == 0:
                assert client.kv("DELETE", "app", b"key-%d" % (cls.writes % 13)).status == 200
            if cls.writes % 5 == 0:
                reply = client.kv("PUT", "app", key, b"no", "if_absent", request_id=request_id())
                assert reply.status == 412, reply
                ops = [{"op": "put", "key": f"b{cls.writes}-{n}", "value": "x" * n} for n in range(7)]
                ops.append({"op": "delete", "key": f"b{cls.writes - 5}-3"})
                reply = client.request("POST", "/v1/db/app/batch", json.dumps({"ops": ops}).encode())
                assert reply.status == 200, reply

    def test_history__means_what_http_showed(self):
        self.assertGreater(len(self.shown), 20)
        self.assertEqual(formats.users(self.database.state), self.shown)

    def test_history__ends_where_the_nodes_said(self):
        """Behind it there may be only the seals of the orderly stop."""
        said = self.views[0]
        behind = [position for position in self.database.positions.values()
                  if position.hash.hex() == said["chain_hash"]]
        self.assertEqual(len(behind), 1)
        self.assertEqual(behind[0].txid, said["durable_txid"])
        self.assertEqual(self.database.position.txid, said["durable_txid"])
        self.assertEqual(formats.dashed(self.database.db), said["uuid"])

    def test_everything_that_can_be_written__was(self):
        """Else this file would not show much."""
        names = {seal["name"] for seal in self.database.seals.values()}
        reasons = {seal["reason"] for seal in self.database.seals.values()}
        self.assertGreaterEqual(len(self.database.seals), 3)
        self.assertGreaterEqual(reasons, {1, 2, 3})
        self.assertGreaterEqual(len(names - {""}), 2)
        self.assertTrue(self.database.manifest["snapshots"])
        self.assertTrue(self.database.blobs)
        codecs = {self.database.read(f"{self.database.base}/{key}")[7] for key in self.database.keys
                  if key.startswith("log/")}
        self.assertEqual(codecs, {0, 1})

    def test_terms__are_those_of_the_seals(self):
        for node in self.cluster.nodes:
            with open(os.path.join(node.data, "db", formats.dashed(self.database.db), "terms"), "rb") as file:
                db, terms, name, address = formats.read_terms(file.read())
            self.assertEqual(db, self.database.db)
            self.assertTrue(terms)
            for term, fields in terms.items():
                seal = self.database.seals[term]
                self.assertEqual(fields, (seal["position"].slot, seal["position"].txid, seal["hash"], *seal["owner"]))
            last = self.database.seals[max(terms)]
            self.assertEqual((name, address), (last["name"], last["address"]))

    def test_engines__hold_the_history_up_to_their_mark(self):
        for node in self.cluster.nodes:
            folder = os.path.join(node.data, "db", formats.dashed(self.database.db))
            with open(os.path.join(folder, "name"), encoding="utf-8") as file:
                self.assertEqual(file.read(), "app=kv\n")
            engine = formats.Engine(os.path.join(folder, "engine"))
            self.assertEqual(engine.mark, self.database.positions[engine.mark.place])
            self.assertEqual(engine.txid, self.database.position.txid)
            engine.rewind()
            self.assertEqual(engine.state, self.database.states[engine.mark.place])

    def test_lease_records__name_the_nodes(self):
        for node in self.cluster.nodes:
            version, record = formats.read_lease(self.lives[node.name])
            live = formats.read_node(record)
            self.assertEqual((live["name"], live["address"], live["state"], live["ttl_ms"]),
                             (node.name, node.address, 1, 500))
            with open(os.path.join(self.cluster.folder, "lease", "node", node.name), "rb") as file:
                last, record = formats.read_lease(file.read())
            stopped = formats.read_node(record)
            self.assertEqual((stopped["state"], stopped["incarnation"]), (2, live["incarnation"]))
            self.assertGreater(last, version)
            self.assertGreater(stopped["counter"], live["counter"])
            with open(os.path.join(node.data, "node.id"), encoding="ascii") as file:
                self.assertEqual(file.read(), formats.dashed(live["node"]) + "\n")

    def counts(self, key):
        """Not so what a leader that was replaced had sent: objects behind the seal of their term, blobs of no entry."""
        if key.startswith("blob/"):
            return key in self.database.blobs
        if not key.startswith("log/"):
            return True
        term, slot = (int(part, 16) for part in key.split("/")[-2:])
        return term not in self.database.seals or slot <= self.database.seals[term]["position"].slot + 1

    def spoil(self, data):
        out = bytearray(data)
        out[self.random.randrange(len(out))] ^= 1 << self.random.randrange(8)
        return bytes(out)

    def test_a_changed_bit__is_found_in_every_kind_of_object(self):
        """The reader checks; else it would agree with anything."""
        base, chosen = self.database.base, [f"names/{self.database.name}"]
        for kind in ("meta", "manifest", "log/", "blob/", *(f"snap/{name}/" for name in self.database.snapshots)):
            keys = [key for key in self.database.keys if key.startswith(kind) and self.counts(key)]
            chosen += [f"{base}/{key}" for key in self.random.sample(keys, min(len(keys), 3))]
        folder = tempfile.mkdtemp(prefix="hadb-formats-")
        self.addCleanup(shutil.rmtree, folder, True)
        for number, key in enumerate(chosen):
            spoilt = os.path.join(folder, str(number))
            shutil.copytree(self.store, spoilt, copy_function=os.link)
            os.remove(os.path.join(spoilt, key))
            with open(os.path.join(spoilt, key), "wb") as file:
                file.write(self.spoil(self.database.read(key)))
            with self.assertRaises(formats.Damage, msg=key):
                formats.Database(spoilt, "app")

    def test_a_changed_bit__is_found_in_what_lies_on_a_node(self):
        node = self.cluster.nodes[0]
        folder = os.path.join(node.data, "db", formats.dashed(self.database.db))
        with open(os.path.join(folder, "terms"), "rb") as file:
            terms = file.read()
        for _ in range(20):
            with self.assertRaises(formats.Damage):
                formats.read_terms(self.spoil(terms))
            with self.assertRaises(formats.Damage):
                formats.read_lease(self.spoil(self.lives[node.name]))
        segment = os.path.join(folder, "engine", "seg-0000000000000001.kv")
        with open(segment, "rb") as file:
            whole = file.read()
        copy = tempfile.mkdtemp(prefix="hadb-formats-")
        self.addCleanup(shutil.rmtree, copy, True)
        with open(os.path.join(copy, os.path.basename(segment)), "wb") as file:
            file.write(self.spoil(whole))
        with self.assertRaises(formats.Damage):
            formats.Engine(copy)


if __name__ == "__main__":
    main()
