#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The program hadb: every command, what it does and what it prints."""
import json
import os
import re
import signal
import subprocess
import tempfile
import unittest

from e2e import ClusterTest, HADB, main, wait_for

OK, FAILED, USAGE, ABSENT, NOT_MET, UNAVAILABLE, UNKNOWN, CORRUPT, AUTH = range(9)
COMMANDS = ("node", "put", "get", "del", "scan", "load", "status", "handoff", "verify", "restore", "inspect", "lease-server")


def run(*args, data=None, env=None, timeout=60):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HADB_")}
    return subprocess.run([HADB, *args], input=data, capture_output=True, timeout=timeout,
                          env={**clean, **(env or {})}, check=False)


class CliTest(ClusterTest):
    def hadb(self, *args, code=OK, data=None, node=0, env=None):
        """Runs a client command on database app; the exit code must be this one. Returns stdout."""
        address = self.cluster.nodes[node].address
        done = run(*args, data=data, env={"HADB_NODE": address, "HADB_DB": "app", **(env or {})})
        self.assertEqual(done.returncode, code, (args, done.stdout[:500], done.stderr))
        self.words = done.stderr.decode()
        if code not in (OK,):
            lines = self.words.strip().splitlines()
            self.assertTrue(lines, args)
            self.assertTrue(lines[0].startswith((f"hadb {args[0]}: ", '{"error":')), self.words)
        return done.stdout

    def json(self, *args, **more):
        return json.loads(self.hadb(*args, "--json", **more))


class Keys(CliTest):
    def test_put_get_del_round_trip_through_any_node(self):
        version = self.hadb("put", "k", "value").decode().strip()
        self.assertRegex(version, r"^\d+\.\d+$")
        for node in range(3):
            self.assertEqual(self.hadb("get", "k", node=node), b"value")
        self.hadb("del", "k", node=1)
        self.assertEqual(self.hadb("get", "k", code=ABSENT, node=2), b"")
        self.assertIn("no such key", self.words)
        self.hadb("del", "k")

    def test_values_come_from_argument_file_or_standard_input(self):
        data = bytes(range(256))
        self.hadb("put", "stdin", data=data)
        self.assertEqual(self.hadb("get", "stdin"), data)
        with tempfile.NamedTemporaryFile() as file:
            file.write(data * 3)
            file.flush()
            self.hadb("put", "file", "--file", file.name)
        self.assertEqual(self.hadb("get", "file"), data * 3)
        self.hadb("put", "nofile", "--file", "/nonexistent/file", code=ABSENT)
        self.assertIn("/nonexistent/file", self.words)
        self.hadb("put", "empty", data=b"")
        self.assertEqual(self.hadb("get", "empty"), b"")

    def test_json_output_has_version_bookmark_and_request_id(self):
        written = self.json("put", "j", "1")
        self.assertEqual(set(written), {"key", "version", "bookmark", "request_id"})
        read = self.json("get", "j", "--bookmark", written["bookmark"], node=1)
        self.assertEqual((read["value"], read["version"]), ("1", written["version"]))
        self.hadb("put", "bin", data=b"\xff")
        self.assertEqual(self.json("get", "bin")["value_base64"], "/w==")
        self.assertEqual(self.hadb("get", "none", "--json", code=ABSENT), b"")
        failed = json.loads(self.words)
        self.assertEqual((set(failed), failed["error"]), ({"error", "message"}, "ABSENT"))

    def test_conditions_exit_with_4(self):
        version = self.hadb("put", "c", "1", "--if-absent").decode().strip()
        self.hadb("put", "c", "2", "--if-absent", code=NOT_MET)
        self.hadb("put", "c", "2", "--if-version", version)
        self.hadb("del", "c", "--if-version", version, code=NOT_MET)
        self.assertEqual(self.hadb("get", "c"), b"2")

    def test_a_request_id_given_twice_writes_once(self):
        identity = self.json("put", "r", "1")["request_id"]
        self.hadb("put", "r", "2")
        self.json("put", "r", "1", "--request-id", identity, node=1)
        self.assertEqual(self.hadb("get", "r"), b"2")

    def test_read_levels_and_acknowledgement_modes_are_options(self):
        for mode in ("async", "local", "durable", "both"):
            self.hadb("put", "mode", mode, "--ack", mode)
        for level in ("any", "linearizable"):
            self.assertEqual(self.hadb("get", "mode", "--read", level, "--node",
                                       self.cluster.leader().address), b"both")
        self.assertEqual(self.hadb("get", "mode", "--read", "bounded", "--max-lag-ms", "60000"), b"both")
        self.hadb("get", "mode", "--read", "bounded", "--max-lag-ms", "0", code=USAGE)
        self.hadb("put", "mode", "x", "--ack", "sometimes", code=USAGE)
        self.hadb("get", "mode", "--read", "soon", code=USAGE)

    def test_an_unknown_database_is_absent(self):
        self.hadb("get", "k", "--db", "nodb", code=ABSENT)
        self.assertIn("nodb", self.words)

    def test_no_node_is_unavailable_and_surely_not_done(self):
        for command in (("put", "k", "1"), ("get", "k"), ("del", "k"), ("status",), ("handoff",), ("scan",)):
            self.hadb(*command, "--node", "127.0.0.1:1", code=UNAVAILABLE)
            self.assertIn("127.0.0.1:1", self.words)

    def test_an_open_outcome_exits_with_6_and_names_the_request_id(self):
        node = self.cluster.nodes[2]
        node.signal(signal.SIGSTOP)
        try:
            self.hadb("put", "u", "1", "--deadline-ms", "200", node=2, code=UNKNOWN)
        finally:
            node.signal(signal.SIGCONT)
        self.assertIn("unknown", self.words)


class Usage(unittest.TestCase):
    def test_help_and_version_go_to_standard_output(self):
        for args in (("--help",), ("help",), ("--version",)):
            done = run(*args)
            self.assertEqual((done.returncode, done.stderr), (OK, b""))
            self.assertTrue(done.stdout)
        for command in COMMANDS:
            done = run(command, "--help")
            self.assertEqual((done.returncode, done.stderr), (OK, b""), command)
            self.assertIn(f"usage: hadb {command}".encode(), done.stdout)
            self.assertIn(command.encode(), run("--help").stdout)


class Scans(CliTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        lines = "".join(f"row/{i:04d}\tvalue {i}\n" for i in range(2500))
        done = run("load", "--format", "tsv", "--db", "app", "--node", cls.cluster.nodes[1].address,
                   data=lines.encode())
        assert done.returncode == OK, done
        cls.lines = lines.encode()

    def test_scan_prints_all_pages_in_order(self):
        for node in range(3):
            self.assertEqual(self.hadb("scan", "--prefix", "row/", node=node), self.lines)
        wanted = b"".join(self.lines.splitlines(keepends=True)[::-1])
        self.assertEqual(self.hadb("scan", "--prefix", "row/", "--reverse"), wanted)

    def test_scan_bounds(self):
        self.assertEqual(self.hadb("scan", "--start", "row/0010", "--end", "row/0012", "--keys"),
                         b"row/0010\nrow/0011\n")
        self.assertEqual(len(self.hadb("scan", "--prefix", "row/", "--limit", "1234").splitlines()), 1234)
        self.assertEqual(self.hadb("scan", "--prefix", "nothing/"), b"")
        reverse = self.hadb("scan", "--prefix", "row/", "--limit", "1", "--reverse", "--keys")
        self.assertEqual(reverse, b"row/2499\n")

    def test_what_scan_prints_as_json_load_reads_back(self):
        self.hadb("put", "row/\u00e9\n", data=b"\0\xff\n")
        exported = self.hadb("scan", "--json", "--prefix", "row/")
        for line in exported.splitlines():
            self.assertLessEqual({"version"}, set(json.loads(line)))
        renamed = exported.replace(b'"row/', b'"copy/')
        report = self.json("load", data=renamed, node=2)
        self.assertEqual(report["records"], len(exported.splitlines()))
        again = self.hadb("scan", "--json", "--prefix", "copy/")

        def strip(text):
            return [re.sub(rb',"version":"[^"]*"', b"", line) for line in text.splitlines()]

        self.assertEqual(strip(again.replace(b'"copy/', b'"row/')), strip(exported))

    def test_load_reads_stanzas_and_files(self):
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"Package: alpha\nVersion: 1\n\n\nPackage: beta\nDescription: two\n lines\n")
            file.flush()
            out = self.json("load", "--format", "stanza", file.name)
        self.assertEqual(out["records"], 2)
        self.assertEqual(self.hadb("get", "beta"), b"Package: beta\nDescription: two\n lines\n")
        self.assertEqual(self.hadb("get", "alpha"), b"Package: alpha\nVersion: 1\n")

    def test_load_names_file_and_line_of_what_it_cannot_read(self):
        for form, text, where in (("tsv", b"a\tb\nno tab\n", ":2:"), ("jsonl", b'{"key":"a"}\n', ":1:"),
                                  ("jsonl", b'{"key":"a","value":"b"}\n{oops\n', ":2:"),
                                  ("stanza", b"Version: 1\n\n", ":")):
            self.hadb("load", "--format", form, data=text, code=FAILED)
            self.assertIn(where, self.words)
        self.hadb("load", "/nonexistent/file", code=ABSENT)
        self.assertIn("/nonexistent/file", self.words)


class Cluster(CliTest):
    def test_status_shows_roles_and_positions(self):
        text = self.hadb("status").decode()
        self.assertIn("node n1", text)
        self.assertRegex(text, r"(?m)^app +(leader|follower) ")
        status = self.json("status", node=2)
        self.assertEqual(status["node"], "n3")
        self.assertEqual(status["databases"][0]["name"], "app")

    def test_handoff_moves_leadership(self):
        for name in ("n2", "n3", "n1"):
            if self.cluster.leader().name != name:
                self.hadb("handoff", "--to", name)
            wait_for(f"{name} as leader", 10, lambda name=name: self.cluster.leader().name == name)
        self.hadb("handoff", "--to", "nobody", code=USAGE)
        self.assertIn("no such node", self.words)


class Storage(CliTest):
    names = ("n1",)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.store = f"file://{cls.cluster.folder}/store"
        done = run("load", "--format", "tsv", "--db", "app", "--node", cls.cluster.nodes[0].address,
                   data=b"".join(b"key%03d\tvalue\n" % i for i in range(500)))
        assert done.returncode == OK, done

    def test_a_restored_folder_holds_what_the_nodes_hold(self):
        folder = os.path.join(self.cluster.folder, "restored")
        report = json.loads(self.hadb("restore", "--store", self.store, "--output", folder, "--json"))
        self.assertEqual(report["database"], "app")
        live = self.hadb("scan", "--json")
        self.assertEqual(self.hadb("scan", "--dir", folder, "--json"), live)
        self.assertEqual(report["keys"], len(live.splitlines()))
        self.assertEqual(self.hadb("scan", "--dir", folder, "--prefix", "key00", "--keys", "--limit", "2"),
                         b"key000\nkey001\n")
        before = sorted(os.listdir(folder))
        self.hadb("restore", "--store", self.store, "--output", folder, code=USAGE)
        self.assertIn(folder, self.words)
        self.assertEqual(sorted(os.listdir(folder)), before)

    def test_verify_reads_the_whole_history(self):
        report = json.loads(self.hadb("verify", "--store", self.store, "--json"))
        self.assertGreater(report["entries"], 0)
        status = self.json("status")["databases"][0]
        self.assertEqual(report["chain_hash"], status["chain_hash"])
        self.assertEqual(report["txid"], status["durable_txid"])
        self.hadb("verify", "--store", self.store, "--db", "nodb", code=ABSENT)
        self.assertIn("nodb", self.words)
        self.hadb("restore", "--store", self.store, "--db", "nodb", "--output",
                  os.path.join(self.cluster.folder, "no"), code=ABSENT)
        self.assertFalse(os.path.exists(os.path.join(self.cluster.folder, "no")))

    def test_inspect_describes_every_stored_object(self):
        seen = 0
        for folder, _, files in os.walk(os.path.join(self.cluster.folder, "store")):
            for name in files:
                path = os.path.join(folder, name)
                if "/probe" in path or "/." in path:  # no objects of a history
                    continue
                text = self.hadb("inspect", path)
                self.assertTrue(text, path)
                self.assertIsInstance(json.loads(self.hadb("inspect", "--json", path)), dict)
                seen += 1
                if seen > 20:
                    break
        self.assertGreater(seen, 4)
        self.hadb("inspect", "/nonexistent/file", code=ABSENT)
        self.hadb("inspect", HADB, code=CORRUPT)
        self.assertIn(HADB, self.words)


class Tokens(CliTest):
    names = ("n1",)

    @classmethod
    def setUpClass(cls):
        with tempfile.NamedTemporaryFile("w", prefix="hadb-token-", delete=False) as file:
            file.write("the-token\n")
        cls.token_file = file.name
        cls.addClassCleanup(os.unlink, file.name)
        cls.options = {"token_file": file.name}
        super().setUpClass()

    def test_the_token_comes_from_a_file(self):
        self.hadb("put", "k", "v", "--token-file", self.token_file)
        self.assertEqual(self.hadb("get", "k", env={"HADB_TOKEN_FILE": self.token_file}), b"v")

    def test_without_it_the_exit_code_is_8(self):
        self.hadb("get", "k", code=AUTH)
        self.hadb("put", "k", "v", "--token-file", "/dev/null", code=AUTH)
        self.hadb("put", "k", "v", "--token-file", "/nonexistent/token", code=AUTH)
        self.assertIn("/nonexistent/token", self.words)
        with tempfile.NamedTemporaryFile("w") as file:
            file.write("another\n")
            file.flush()
            self.hadb("status", "--token-file", file.name, code=AUTH)


if __name__ == "__main__":
    main()
