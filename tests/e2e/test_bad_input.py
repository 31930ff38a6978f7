#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What is wrong, missing or damaged from outside: one clear error that names the thing, nothing lost, no crash."""
import glob
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import unittest

from e2e import Client, Cluster, HADB, Node, main, wait_for

FAILED, USAGE, ABSENT, UNAVAILABLE, CORRUPT, AUTH = 1, 2, 3, 5, 7, 8
NOBODY = 65534


class FolderTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="hadb-bad-")
        self.addCleanup(shutil.rmtree, self.folder, True)

    def hadb(self, *args, codes, names=(), env=None, seconds=30, unprivileged=False):
        """The program ends by itself with one of these codes and one error that names the thing."""
        become = {}
        if unprivileged and os.geteuid() == 0:
            become = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        done = subprocess.run([HADB, *args], capture_output=True, stdin=subprocess.DEVNULL, timeout=seconds,
                              env={**os.environ, **(env or {})}, check=False, **become)
        words = done.stderr.decode(errors="replace")
        self.assertIn(done.returncode, codes if isinstance(codes, tuple) else (codes,), (args, words))
        errors = [line for line in words.splitlines() if line.startswith(f"hadb {args[0]}: ")]
        self.assertEqual(len(errors), 1, words)
        for name in names:
            self.assertIn(name, errors[0])
            self.assertFalse(name.endswith("/manifest") and errors[0].count(name) > 1, errors[0])
        self.assertEqual(done.stdout, b"")
        return errors[0]

    def node(self, *, codes, names=(), name="n1", data=None, store=None, lease=None, listen="127.0.0.1:0",
             db="app=kv", more=(), **options):
        return self.hadb("node", "--name", name, "--data", data or f"{self.folder}/data", "--store",
                         store or f"file://{self.folder}/store", "--lease",
                         lease or f"file://{self.folder}/lease", "--listen", listen, "--db", db, *more,
                         codes=codes, names=names, **options)

    def nothing_made(self):
        self.assertEqual({"data", "store", "lease"} & set(os.listdir(self.folder)), set())

    def write(self, name, text=""):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path


class Options(FolderTest):
    def test_wrong_urls_are_named(self):
        for url in ("s4://bucket", "nonsense", "file:relative", "file://", "file://host/dir", "mem:?latency_ms=x",
                    "mem:?colour=red", "file:///tmp/x?y=1", "http//x"):
            self.node(store=url, codes=USAGE, names=[url])
            self.node(lease=url, codes=USAGE, names=[url])
            self.hadb("verify", "--store", url, "--db", "app", codes=USAGE, names=[url])
            self.nothing_made()

    def test_wrong_names_addresses_and_numbers_are_named(self):
        for name in ("", "a/b", "..", "x" * 65, "a b"):
            self.node(name=name, codes=USAGE, names=["name"])
        for listen in ("127.0.0.1", "127.0.0.1:port", "127.0.0.1:70000", ":::"):
            self.node(listen=listen, codes=USAGE, names=[listen])
        self.node(listen="nowhere.invalid:1", codes=(FAILED, USAGE, AUTH), names=["nowhere.invalid:1"])
        for more in (("--ttl-ms", "0"), ("--ttl-ms", "x"), ("--window", "9"), ("--workers", "0"),
                     ("--shutdown-ms", "-1")):
            self.node(more=more, codes=USAGE, names=[more[0], more[1]])
        self.nothing_made()

    def test_wrong_database_options_are_named(self):
        for db in ("app", "app=", "=kv", "a/b=kv", "app=oracle", "app=kv,fast", "app=kv,ack=never",
                   "app=kv,sync-ms=0", "app=kv,clone_guard=maybe", "app=kv,clone_guard", "app=kv,snapshot-slots=x"):
            self.node(db=db, codes=USAGE)

    def test_the_same_database_twice_is_refused(self):
        self.node(more=("--db", "app=memory"), codes=USAGE, names=["app"])
        self.assertEqual(os.listdir(self.folder), [])

    def test_all_databases_are_checked_before_anything_is_made(self):
        for db in ("other=oracle", "other=kv,ack=never", "other=kv,fast", "a/b=kv", "other"):
            self.node(more=("--db", db), codes=USAGE, names=[db])
            self.assertEqual(os.listdir(self.folder), [])

    def test_secrets_in_urls_are_not_shown(self):
        for url in ("s3://AKIAX:hunter2@bucket/dir", "s4://u:hunter2@h/?secret_access_key=hunter2&region=eu",
                    "file://u:hunter2@h/dir", f"file://{self.folder}/s?token=hunter2", "s3://b?password=hunter2#",
                    "http//u:hunter2@h"):
            for error in (self.node(store=url, codes=(FAILED, USAGE)), self.node(lease=url, codes=(FAILED, USAGE)),
                          self.hadb("verify", "--store", url, "--db", "app", codes=(FAILED, USAGE))):
                self.assertNotIn("hunter2", error)
                self.assertIn(url.split("hunter2")[0].split("AKIA")[0].split("u:")[0], error)

    def test_beyond_loopback_a_token_is_required(self):
        error = self.node(listen="0.0.0.0:0", more=("--advertise", "127.0.0.1:1"), codes=AUTH)
        self.assertIn("token", error)
        self.nothing_made()

    def test_a_wildcard_needs_an_address_for_others(self):
        token = self.write("token", "secret\n")
        error = self.node(listen="0.0.0.0:0", more=("--token-file", token), codes=USAGE)
        self.assertIn("advertise", error)
        self.nothing_made()

    def test_bad_token_files_are_named(self):
        for path in (self.write("empty"), self.write("long", "x" * 600), f"{self.folder}/none"):
            self.node(more=("--token-file", path), codes=AUTH, names=[path])


class Folders(FolderTest):
    def test_folders_that_cannot_be_made_are_named(self):
        file = self.write("file")
        self.node(data=f"{file}/data", codes=(FAILED, AUTH), names=[file])
        self.node(store=f"file://{file}/store", codes=(FAILED, AUTH), names=[file])
        self.node(lease=f"file://{file}/lease", codes=(FAILED, AUTH), names=[file])
        for option in ("data", "store", "lease"):
            self.node(**{option: ("" if option == "data" else "file://") + "/proc/hadb"}, codes=(FAILED, AUTH),
                      names=["/proc/hadb"])
            self.node(**{option: ("" if option == "data" else "file://") + file}, codes=(FAILED, AUTH), names=[file])

    def test_folders_without_rights_are_named(self):
        """As a user who owns nothing but the folders that are made for him."""
        os.chmod(self.folder, 0o755)
        for name, mode in (("locked", 0), ("read-only", 0o555)):
            bad = os.path.join(self.folder, name)
            os.mkdir(bad)
            os.chmod(bad, mode)
            self.addCleanup(os.chmod, bad, 0o700)
            for option in ("data", "store", "lease"):
                own = tempfile.mkdtemp(prefix="hadb-bad-")
                self.addCleanup(shutil.rmtree, own, True)
                if os.geteuid() == 0:
                    os.chown(own, NOBODY, NOBODY)
                options = {"data": f"{own}/data", "store": f"file://{own}/store", "lease": f"file://{own}/lease"}
                options[option] = options[option].replace(own, bad)
                error = self.node(codes=AUTH, names=[bad], unprivileged=True, **options)
                self.assertIn("Permission denied", error)

    def test_a_store_that_became_read_only_is_refused_at_start(self):
        with Cluster(HADB, ("n1",)) as cluster:
            cluster.leader()
            self.assertEqual(cluster.nodes[0].stop()[0], 0)
            store = f"{cluster.folder}/store"
            os.chmod(cluster.folder, 0o755)
            own = tempfile.mkdtemp(prefix="hadb-bad-")
            self.addCleanup(shutil.rmtree, own, True)
            for path, folders, files in os.walk(store):
                os.chmod(path, 0o555)
                for file in files:
                    os.chmod(os.path.join(path, file), 0o444)
            if os.geteuid() == 0:
                os.chown(own, NOBODY, NOBODY)
            self.node(name="n2", data=f"{own}/data", store=f"file://{store}", lease=f"file://{own}/lease",
                      codes=AUTH, names=[store], unprivileged=True)
            for path, _, _ in os.walk(store):
                os.chmod(path, 0o755)

    def test_a_second_process_on_a_data_folder_is_refused(self):
        with Cluster(HADB, ("n1",)) as cluster:
            node = cluster.nodes[0]
            cluster.leader()
            for name in ("n1", "n2"):
                self.node(name=name, data=node.data, store=f"file://{cluster.folder}/store",
                          lease=f"file://{cluster.folder}/lease", codes=UNAVAILABLE, names=[node.data])
            self.assertEqual(node.client.kv("PUT", "app", "k", b"1").status, 200)

    def test_a_port_that_is_taken_is_named(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            self.node(listen=address, codes=FAILED, names=[address])
        self.nothing_made()

    def test_scanning_a_folder_without_a_database_is_refused_and_makes_nothing(self):
        for path in (f"{self.folder}/none", self.folder):
            self.hadb("scan", "--dir", path, codes=ABSENT, names=[path])
        self.assertEqual(os.listdir(self.folder), [])


def flip(path, offset):
    """Changes one byte; negative offsets count from the end."""
    with open(path, "r+b") as file:
        file.seek(offset, os.SEEK_SET if offset >= 0 else os.SEEK_END)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0x40]))


def cut(path, bytes_left):
    os.truncate(path, bytes_left)


class LocalDamage(unittest.TestCase):
    """A node whose own files are damaged either repairs itself from storage or says which file it is; nothing is lost."""

    def setUp(self):
        self.cluster = Cluster(HADB, ("n1", "n2"))
        self.addCleanup(self.cluster.close)
        for node in self.cluster.nodes:
            node.start()
        self.cluster.leader()
        self.expected = {}
        for i in range(300):
            key, value = f"key/{i:03d}", b"%d " % i * 50
            reply = self.cluster.nodes[i % 2].client.kv("PUT", "app", key, value)
            self.assertEqual(reply.status, 200, reply)
            self.expected[key] = value
        self.cluster.agree()

    def follower(self):
        leader = self.cluster.leader()
        return next(node for node in self.cluster.nodes if node is not leader)

    def segments(self, node):
        return sorted(glob.glob(f"{node.data}/db/*/engine/seg-*"))

    def content(self, node):
        reply = node.client.request("GET", "/v1/db/app/scan?limit=10000", headers={"Hadb-Read": "linearizable"})
        self.assertEqual(reply.status, 200, reply)
        return {item["key"]: item["value"].encode() for item in reply.json()["items"]}

    def restart_with(self, damage):
        """Damages the follower's files while it is down. It must come back whole, or halt the database with a reason that names
        the file and what to do, and then come back once that is done. Returns whether it halted."""
        node = self.follower()
        node.kill()
        path = damage(node)
        node.start()
        view = wait_for("whole or halted", 20, lambda: (view := node.status("app")) and
                        (view["role"] == "halted" or self.cluster.settled()) and view)
        halted = view["role"] == "halted"
        if halted:
            folder = glob.glob(f"{node.data}/db/*")[0]
            self.assertIn(os.path.dirname(path), view["reason"])
            self.assertIn(f"move db/{os.path.basename(folder)} away and start again", view["reason"])
            for url in ("/readyz", "/healthz"):
                reply = Client(node.address).once("GET", url)
                self.assertEqual((reply.status, "app" in reply.json()["message"]), (503, True), reply)
            for level in ("any", "linearizable"):
                reply = node.client.kv("GET", "app", "key/000", read=level)
                self.assertEqual((reply.status, reply.json()["message"]), (503, view["reason"]), reply)
            self.assertEqual(node.stop()[0], 0)
            os.rename(folder, f"{self.cluster.folder}/away")
            node.start()
        wait_for("the repaired follower", 20, lambda: self.cluster.settled() and self.cluster.agree())
        self.assertEqual(self.content(node), self.expected)
        # and it can lead with what it has
        leader = self.cluster.leader()
        leader.kill()
        self.cluster.new_leader(leader)
        self.assertEqual(self.content(node), self.expected)
        return halted

    def test_a_torn_end_of_the_newest_segment(self):
        def damage(node):
            path = self.segments(node)[-1]
            cut(path, os.path.getsize(path) - 7)
            return path
        self.restart_with(damage)

    def test_a_cut_in_the_middle_of_a_segment(self):
        def damage(node):
            path = self.segments(node)[0]
            cut(path, os.path.getsize(path) // 2)
            return path
        self.restart_with(damage)

    def test_a_flipped_byte_in_the_middle_of_a_segment(self):
        def damage(node):
            path = self.segments(node)[0]
            flip(path, os.path.getsize(path) // 2)
            return path
        self.restart_with(damage)

    def test_a_flipped_byte_in_the_head_of_a_segment(self):
        def damage(node):
            path = self.segments(node)[0]
            flip(path, 3)
            return path
        self.assertTrue(self.restart_with(damage))

    def test_a_damaged_table_of_terms(self):
        def damage(node):
            path = glob.glob(f"{node.data}/db/*/terms")[0]
            flip(path, -2)
            return path
        self.assertTrue(self.restart_with(damage))

    def test_garbage_behind_the_newest_segment(self):
        def damage(node):
            path = self.segments(node)[-1]
            with open(path, "ab") as file:
                file.write(os.urandom(500))
            return path
        self.restart_with(damage)

    def test_a_lost_segment(self):
        def damage(node):
            path = self.segments(node)[-1]
            os.unlink(path)
            return path
        self.restart_with(damage)

    def test_a_damaged_identity_is_named(self):
        node = self.follower()
        node.kill()
        path = os.path.join(node.data, "node.id")
        with open(path, "wb") as file:
            file.write(b"garbage")
        with self.assertRaises(Exception):
            node.start()
        self.assertIn(path, node.last_words())
        os.unlink(path)
        node.start()
        self.cluster.agree()
        self.assertEqual(self.content(node), self.expected)


class StorageDamage(FolderTest):
    """Objects that are damaged or missing are named by verify, restore and a node that needs them; nobody skips them."""

    def setUp(self):
        super().setUp()
        self.cluster = Cluster(HADB, ("n1",), databases=("app=kv,no-snapshots",))
        self.addCleanup(self.cluster.close)
        node = self.cluster.nodes[0].start()
        self.cluster.leader()
        for i in range(20):
            self.assertEqual(node.client.kv("PUT", "app", f"k{i:02d}", os.urandom(2000)).status, 200)
        self.cluster.agree()
        self.store = f"file://{self.cluster.folder}/store"

    def objects(self):
        paths = glob.glob(f"{self.cluster.folder}/store/*/*/log/*/*")
        self.assertGreaterEqual(len(paths), 20)
        return sorted(paths)

    def is_named(self, path, codes=CORRUPT):
        name = path.split("/store/")[1]
        for command in (("verify",), ("restore", "--output", f"{self.folder}/restored")):
            self.hadb(*command, "--store", self.store, "--db", "app", codes=codes, names=[name])
        self.assertEqual(os.listdir(self.folder), [])
        return name

    def new_node_halts(self, name):
        """A node that starts empty needs every object."""
        node = Node(HADB, self.cluster.folder, "n9", ("app=kv",), options=("--never-lead",))
        self.addCleanup(node.kill)
        node.start()
        view = wait_for("the node halts", 20, lambda: (view := node.status("app")) and view["role"] == "halted" and view)
        self.assertIn(name, view["reason"])
        self.assertIn("put the object back", view["reason"])
        self.assertEqual(Client(node.address).once("GET", "/readyz").status, 503)
        self.assertEqual(Client(node.address).once("GET", "/healthz").status, 503)
        reply = node.client.kv("GET", "app", "k00", read="linearizable", deadline_ms=500)
        self.assertEqual(reply.status, 503, reply)
        with open(node.log, encoding="utf-8") as log:
            self.assertIn(name, log.read())
        code, seconds = node.stop()
        self.assertEqual(code, 0)

    def test_a_flipped_byte_in_the_body_of_an_object(self):
        path = self.objects()[9]
        flip(path, -100)
        self.new_node_halts(self.is_named(path))

    def test_a_flipped_byte_in_the_head_of_an_object(self):
        path = self.objects()[9]
        flip(path, 40)
        self.is_named(path)

    def test_a_truncated_object(self):
        path = self.objects()[9]
        cut(path, os.path.getsize(path) - 1)
        self.new_node_halts(self.is_named(path))

    def test_an_empty_object(self):
        path = self.objects()[9]
        cut(path, 0)
        self.is_named(path)

    def test_an_object_in_the_place_of_another(self):
        paths = self.objects()
        shutil.copy(paths[8], paths[9])
        self.new_node_halts(self.is_named(paths[9]))

    def test_a_missing_manifest_halts_and_is_named(self):
        path = glob.glob(f"{self.cluster.folder}/store/*/*/manifest")[0]
        os.unlink(path)
        self.is_named(path, codes=(CORRUPT, ABSENT))

    def test_a_damaged_manifest_and_a_damaged_name_are_named(self):
        for pattern in ("*/*/manifest", "names/app"):
            path = glob.glob(f"{self.cluster.folder}/store/{pattern}")[0]
            with open(path, "rb") as file:
                good = file.read()
            flip(path, len(good) // 2)
            self.is_named(path)
            with open(path, "wb") as file:
                file.write(good)
        self.hadb_ok()

    def hadb_ok(self):
        done = subprocess.run([HADB, "verify", "--store", self.store, "--db", "app"], capture_output=True,
                              timeout=30, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_the_leader_goes_on_beside_a_damaged_old_object(self):
        flip(self.objects()[3], -50)
        node = self.cluster.nodes[0]
        self.assertEqual(node.client.kv("PUT", "app", "after", b"1").status, 200)
        self.assertEqual(node.client.kv("GET", "app", "after", read="linearizable").body, b"1")


class LeaseDamage(unittest.TestCase):
    def test_garbage_in_the_lease_store_costs_no_write(self):
        with Cluster(HADB, ("n1", "n2"), ttl_ms=1000) as cluster:
            cluster.leader()
            self.assertEqual(cluster.nodes[0].client.kv("PUT", "app", "a", b"1").status, 200)
            for path in glob.glob(f"{cluster.folder}/lease/**", recursive=True):
                if os.path.isfile(path):
                    with open(path, "wb") as file:
                        file.write(os.urandom(80))
            for i in range(20):
                for node in cluster.nodes:
                    reply = node.client.kv("PUT", "app", f"b{i}", b"1")
                    self.assertEqual(reply.status, 200, reply)
            views = cluster.agree()
            self.assertEqual(len({view["chain_hash"] for view in views}), 1)
            self.assertTrue(all(node.alive for node in cluster.nodes))


class Signals(unittest.TestCase):
    def test_a_node_that_cannot_reach_its_end_in_order_ends_in_time(self):
        with Cluster(HADB, ("n1", "n2"), options=("--shutdown-ms", "1500"), ttl_ms=60000) as cluster:
            leader = cluster.leader()
            other = next(node for node in cluster.nodes if node is not leader)
            other.signal(signal.SIGSTOP)  # nobody takes over
            code, seconds = leader.stop()
            other.signal(signal.SIGCONT)
            self.assertEqual(code, 0)
            self.assertLess(seconds, 6)
            with open(leader.log, encoding="utf-8") as log:
                self.assertIn("closing within 1500 ms, or 5 s more where storage, lease or disk hang\n", log.read())


if __name__ == "__main__":
    main()
