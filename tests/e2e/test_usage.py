#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The program hadb at its edges: every command with every kind of wrong input against the table of exit codes in docs/cli.md;
errors as text and as JSON; output that cannot be written; terminals."""
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import unittest

from e2e import ROOT, ClusterTest, HADB, main

OK, FAILED, USAGE, ABSENT, NOT_MET, UNAVAILABLE, UNKNOWN, CORRUPT, AUTH = range(9)
NODE = ("node", "--name", "n", "--data", "{tmp}/data", "--store", "file://{tmp}/store", "--lease",
        "file://{tmp}/lease", "--listen", "127.0.0.1:0", "--db", "app=kv")

# Where the text of a row has {…}: tmp is an empty folder, node and app are a running node and its database, store is its storage,
# dead is an address where nobody listens, file is a file, nofile does not exist, dir is a folder with nothing in it.
ROWS = [
    # the command itself
    (USAGE, ()), (USAGE, ("frobnicate",)), (USAGE, ("help", "frobnicate")), (USAGE, ("--frob", "get", "k")),
    (USAGE, ("--node",)), (USAGE, ("",)), (USAGE, ("get", "-x", "k", "--db", "app")),
    # arguments that are missing, or one too many
    (USAGE, ("put",)), (USAGE, ("get",)), (USAGE, ("del",)), (USAGE, ("put", "a", "b", "c", "--db", "app")),
    (USAGE, ("get", "a", "b", "--db", "app")), (USAGE, ("del", "a", "b", "--db", "app")),
    (USAGE, ("scan", "x", "--db", "app")), (USAGE, ("load", "a", "b", "--db", "app")), (USAGE, ("status", "x")),
    (USAGE, ("handoff", "x", "--db", "app")), (USAGE, ("verify", "x", "--store", "{store}", "--db", "app")),
    (USAGE, ("restore", "x", "--store", "{store}", "--db", "app", "--output", "{tmp}/o")), (USAGE, ("inspect",)),
    (USAGE, ("inspect", "a", "b")), (USAGE, ("node",)), (USAGE, ("node", "--name", "n")), (USAGE, (*NODE, "x")),
    (USAGE, ("verify",)), (USAGE, ("verify", "--store", "{store}")), (USAGE, ("restore", "--store", "{store}", "--db", "app")),
    *[(USAGE, (command, *more)) for command, *more in (
        ("put", "k", "v"), ("get", "k"), ("del", "k"), ("scan",), ("load",), ("handoff",))],  # which database?
    # options that do not exist, or not for this command, or lack a value, or take none
    *[(USAGE, (command, "--frob")) for command in
      ("node", "put", "get", "del", "scan", "load", "status", "handoff", "verify", "restore", "inspect")],
    (USAGE, ("get", "k", "--db", "app", "--if-absent")), (USAGE, ("get", "k", "--db", "app", "--ack", "local")),
    (USAGE, ("del", "k", "--db", "app", "--if-absent")), (USAGE, ("put", "k", "v", "--db", "app", "--read", "any")),
    (USAGE, ("status", "--to", "n1")), (USAGE, ("get", "k", "--d", "app")), (USAGE, ("get", "k", "--nod={node}", "--db", "app")), (USAGE, ("verify", "--store", "{store}", "--db", "app", "--output", "{tmp}/o")),
    (USAGE, ("get", "k", "--db")), (USAGE, ("get", "k", "--db", "app", "--json=yes")), (USAGE, ("inspect", "--store", "x")),
    (USAGE, ("scan", "--dir", "{dir}", "--node", "{node}")), (USAGE, ("put", "k", "v", "--db", "app", "--file", "{file}")),
    # values of options that can never work
    *[(USAGE, ("get", "k", "--db", "app", "--node", bad)) for bad in
      ("localhost", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000", "127.0.0.1:0", ":4280", "https://127.0.0.1:4280",
       "http://127.0.0.1", "127.0.0.1:1,", "a b:1", "127.0.0.1:1/v1", ",".join(["127.0.0.1:1"] * 17))],
    *[(USAGE, ("get", "k", "--db", "app", "--deadline-ms", bad)) for bad in ("0", "x", "-1", "1s", "600001", "")],
    (USAGE, ("get", "k", "--db", "app", "--read", "soon")), (USAGE, ("put", "k", "v", "--db", "app", "--ack", "sometimes")),
    (USAGE, ("get", "k", "--db", "app", "--node", "{node}", "--bookmark", "x")),
    (USAGE, ("put", "k", "v", "--db", "app", "--node", "{node}", "--request-id", "x")),
    (USAGE, ("put", "k", "v", "--db", "app", "--node", "{node}", "--if-version", "x")),
    (USAGE, ("put", "k", "v", "--db", "app", "--if-version", "1.1", "--if-absent")),
    (USAGE, ("put", "", "v", "--db", "app", "--node", "{node}")), (USAGE, ("get", "", "--db", "app", "--node", "{node}")),
    (USAGE, ("put", "k" * 65537, "v", "--db", "app", "--node", "{node}")), (USAGE, ("get", "k", "--db", "", "--node", "{node}")),
    *[(USAGE, ("scan", "--db", "app", "--limit", bad)) for bad in ("0", "x", "-1", "1x", "99999999999999999999")],
    (USAGE, ("load", "--db", "app", "--format", "xml")),
    *[(USAGE, ("load", "--db", "app", "--batch", bad)) for bad in ("0", "x", "5x", "10001")],
    (USAGE, ("handoff", "--db", "app", "--node", "{node}", "--to", "nobody")),
    (USAGE, ("restore", "--store", "{store}", "--db", "app", "--output", "{tmp}/o", "--to", "yesterday")),
    *[(USAGE, (*command, "--store", bad, "--db", "app")) for command in (("verify",), ("restore", "--output", "{tmp}/o"))
      for bad in ("mem:", "mem:x", "s4://bucket", "nonsense", "file:relative", "file://host/dir", "")],
    *[(USAGE, (*NODE, *more)) for more in (
        ("--name", ""), ("--name", "a/b"), ("--name", ".."), ("--name", "x" * 65), ("--data", ""), ("--listen", "127.0.0.1"),
        ("--listen", "127.0.0.1:port"), ("--listen", "127.0.0.1:70000"), ("--listen", ":::"), ("--listen", "0.0.0.0:0"),
        ("--advertise", "x"), ("--advertise", "0.0.0.0:1"), ("--store", "s4://b"), ("--lease", "s4://b"),
        ("--store", ""), ("--lease", ""), ("--ttl-ms", "0"), ("--ttl-ms", "x"), ("--window", "9"), ("--workers", "0"),
        ("--shutdown-ms", "-1"), ("--db", "b"), ("--db", "b="), ("--db", "=kv"), ("--db", "a/b=kv"), ("--db", "b=oracle"),
        ("--db", "b=kv,fast"), ("--db", "b=kv,ack=never"), ("--db", "b=kv,sync-ms=0"), ("--db", "app=kv"), ("--db", "app=memory,ack=local"))],
    # what is not there
    (ABSENT, ("get", "nokey", "--db", "app", "--node", "{node}")), (ABSENT, ("get", "k", "--db", "nodb", "--node", "{node}")),
    (ABSENT, ("put", "k", "v", "--db", "nodb", "--node", "{node}")), (ABSENT, ("del", "k", "--db", "nodb", "--node", "{node}")),
    (ABSENT, ("scan", "--db", "nodb", "--node", "{node}")), (ABSENT, ("handoff", "--db", "nodb", "--node", "{node}")),
    (ABSENT, ("load", "{nofile}", "--db", "app", "--node", "{node}")), (ABSENT, ("inspect", "{nofile}")),
    (ABSENT, ("put", "k", "--file", "{nofile}", "--db", "app", "--node", "{node}")),
    (ABSENT, ("scan", "--dir", "{nofile}")), (ABSENT, ("scan", "--dir", "{dir}")), (ABSENT, ("scan", "--dir", "{file}")),
    (ABSENT, ("verify", "--store", "{store}", "--db", "nodb")), (ABSENT, ("verify", "--store", "file://{dir}", "--db", "app")),
    (ABSENT, ("verify", "--store", "file://{nofile}", "--db", "app")),
    (ABSENT, ("restore", "--store", "{store}", "--db", "nodb", "--output", "{tmp}/o")),
    (ABSENT, ("restore", "--store", "file://{nofile}", "--db", "app", "--output", "{tmp}/o")),
    # conditions
    (NOT_MET, ("put", "there", "v", "--if-absent", "--db", "app", "--node", "{node}")),
    (NOT_MET, ("put", "there", "v", "--if-version", "9.9", "--db", "app", "--node", "{node}")),
    (NOT_MET, ("del", "there", "--if-version", "9.9", "--db", "app", "--node", "{node}")),
    # nobody there
    *[(UNAVAILABLE, (*command, "--db", "app", "--node", "{dead}")) for command in
      (("put", "k", "v"), ("get", "k"), ("del", "k"), ("scan",), ("handoff",))],
    (UNAVAILABLE, ("status", "--node", "{dead}")), (UNAVAILABLE, ("status", "--node", "{dead},{dead}")),
    (UNAVAILABLE, ("load", "{tsv}", "--format", "tsv", "--db", "app", "--node", "{dead}", "--deadline-ms", "200")),
    (UNAVAILABLE, (*NODE, "--data", "{running}")), (UNAVAILABLE, ("scan", "--dir", "{engine}")),
    # it did not work
    (FAILED, ("load", "{file}", "--db", "app", "--node", "{node}")), (FAILED, ("inspect", "{dir}")),
    (FAILED, ("put", "k", "--file", "{dir}", "--db", "app", "--node", "{node}")),
    (FAILED, ("load", "{dir}", "--db", "app", "--node", "{node}")), (FAILED, (*NODE, "--listen", "{node}")),
    (FAILED, (*NODE, "--data", "{file}/data")), (FAILED, (*NODE, "--data", "/proc/hadb")),
    (USAGE, ("restore", "--store", "{store}", "--db", "app", "--output", "{full}")),
    (USAGE, ("restore", "--store", "{store}", "--db", "app", "--output", "{file}")),
    (FAILED, ("restore", "--store", "{store}", "--db", "app", "--output", "/proc/hadb")),
    # damage
    (CORRUPT, ("inspect", "{file}")), (CORRUPT, ("verify", "--store", "file://{damaged}", "--db", "app")),
    (CORRUPT, ("restore", "--store", "file://{damaged}", "--db", "app", "--output", "{tmp}/o")),
    # tokens
    *[(AUTH, (*command, "--token-file", bad)) for bad in
      ("{nofile}", "{dir}", "{empty}", "{newline}", "{two}", "{blank}", "{long}", "/dev/null") for command in
      (("get", "k", "--db", "app", "--node", "{node}"), NODE)],
    (AUTH, (*NODE, "--listen", "0.0.0.0:0", "--advertise", "127.0.0.1:1")),
]


def hadb(*args, data=b"", env=None, **more):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HADB_")}
    return subprocess.run([HADB, *args], input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=10,
                          env={**clean, **(env or {})}, check=False, **more)


def read_terminal(terminal, seconds=30):
    """What a terminal shows next; nothing when the other side is closed, or silent for so long."""
    if not select.select([terminal], [], [], seconds)[0]:
        return b""
    try:
        return os.read(terminal, 65536)
    except OSError:  # EIO: closed
        return b""


class EdgeTest(ClusterTest):
    names = ("n1",)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        node = cls.cluster.nodes[0]
        cls.folder = tempfile.mkdtemp(prefix="hadb-usage-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, True)
        cls.env = {"HADB_NODE": node.address, "HADB_DB": "app"}
        assert hadb("put", "there", "1", env=cls.env).returncode == OK

        def write(name, text):
            path = os.path.join(cls.folder, name)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(path, 0o600)
            return path

        def make(name):
            path = os.path.join(cls.folder, name)
            os.mkdir(path)
            return path

        closed = socket.socket()  # bound and never listening: nobody else gets this port
        cls.addClassCleanup(closed.close)
        closed.bind(("127.0.0.1", 0))
        dead = closed.getsockname()[1]
        damaged = os.path.join(cls.folder, "damaged")
        shutil.copytree(f"{cls.cluster.folder}/store", damaged)
        os.truncate(os.path.join(damaged, "names", "app"), 3)
        full = make("full")
        write("full/something", "x")
        cls.words = {
            "node": node.address, "dead": f"127.0.0.1:{dead}", "store": f"file://{cls.cluster.folder}/store",
            "file": write("file", "this is no record and no object\n"), "nofile": f"{cls.folder}/none/file",
            "dir": make("dir"), "full": full, "damaged": damaged, "running": node.data,
            "engine": os.path.join(node.data, "db", os.listdir(os.path.join(node.data, "db"))[0], "engine"),
            "tsv": write("tsv", "a\tb\n"), "empty": write("empty", ""), "newline": write("newline", "\n"),
            "two": write("two", "secret\nsecond\n"), "blank": write("blank", "a secret\n"), "long": write("long", "x" * 513),
        }


class ExitCodes(EdgeTest):
    def check(self, row, args):
        """The code, one message that starts with the command's name, nothing on stdout, nothing made."""
        tmp = tempfile.mkdtemp(prefix="hadb-row-")
        try:
            line = [re.sub(r"\{(\w+)\}", lambda m: {"tmp": tmp, **self.words}[m[1]], arg) for arg in args]
            done = hadb(*line)
            words = done.stderr.decode()
            self.assertEqual(done.returncode, row, (line, words))
            self.assertEqual(done.stdout, b"", line)
            self.assertFalse(os.path.exists(f"{tmp}/o"), line)
            if args and args[0] in ("help", "", "frobnicate") or (args and args[0].startswith("-")):
                self.assertRegex(words, r"(?m)^hadb: ")
            elif args:
                messages = [text for text in words.splitlines() if text.startswith("hadb")]
                self.assertEqual(len(messages), 1, (line, words))
                self.assertRegex(messages[0], f"^hadb {args[0]}: .")
            random_part = re.compile(r"[0-9a-f]{8}|after \d+ ms")  # a temporary folder's name, curl's stopwatch
            if args and row != USAGE and "--json" not in line and args[0] != "node":
                done = hadb(*line, "--json")
                self.assertEqual((done.returncode, done.stdout), (row, b""), (line, done))
                error = json.loads(done.stderr)
                self.assertLessEqual({"error", "message"}, set(error))
                self.assertIn(random_part.sub("", error["message"]), random_part.sub("", words))
        finally:
            shutil.rmtree(tmp, True)

    def test_each_wrong_input_has_the_exit_code_of_the_table(self):
        for row, args in ROWS:
            with self.subTest(row=row, args=" ".join(args)[:200]):
                self.check(row, args)

    def test_an_error_of_usage_names_the_next_step_and_is_json_if_asked(self):
        done = hadb("get")
        self.assertRegex(done.stderr.decode(), r"^hadb get: which key\?\nusage: hadb get .*\n'hadb get --help' .*\n$")
        for args in (("get", "--json"), ("--json", "get"), ("frob", "--json"), ("scan", "--json", "--frob")):
            done = hadb(*args)
            self.assertEqual((done.returncode, done.stdout), (USAGE, b""), args)
            self.assertEqual(json.loads(done.stderr)["error"], "EINVAL", done)

    def test_an_open_outcome_can_be_repeated(self):
        node = self.cluster.nodes[0]
        node.signal(signal.SIGSTOP)
        try:
            text = hadb("put", "u", "1", "--deadline-ms", "200", env=self.env)
            done = hadb("del", "u2", "--deadline-ms", "200", "--json", env=self.env)
        finally:
            node.signal(signal.SIGCONT)
        self.assertEqual((text.returncode, done.returncode), (UNKNOWN, UNKNOWN))
        identity = re.search(r"--request-id (\S+)", text.stderr.decode())[1]
        again = hadb("put", "u", "1", "--request-id", identity, "--json", env=self.env)
        self.assertEqual(json.loads(again.stdout)["request_id"], identity)
        self.assertRegex(json.loads(done.stderr)["request_id"], r"^[0-9a-f-]{36}$")

    def test_the_page_of_the_manual_lists_every_code(self):
        with open(os.path.join(ROOT, "docs", "cli.md"), encoding="utf-8") as file:
            rows = re.findall(r"(?m)^\| (\d) \|", file.read())
        self.assertEqual(rows, [str(code) for code in range(9)])
        self.assertEqual({row for row, _ in ROWS} | {OK, UNKNOWN}, set(range(9)))


class CommandLine(EdgeTest):
    def test_help_of_a_command_in_three_ways(self):
        for command in ("node", "put", "get", "del", "scan", "load", "status", "handoff", "verify", "restore", "inspect"):
            texts = {hadb(*args).stdout for args in ((command, "--help"), ("help", command), (command, "-h"),
                                                     (command, "x", "--help"))}
            self.assertEqual(len(texts), 1, command)
            self.assertIn(f"usage: hadb {command}".encode(), texts.pop())

    def test_shared_options_may_stand_before_the_command(self):
        env = {"HADB_DB": "app"}
        done = hadb("--json", "--node", self.words["node"], "status", env=env)
        self.assertEqual(json.loads(done.stdout)["node"], "n1")
        done = hadb("--node", self.words["node"], "--db", "app", "get", "there", "--json")
        self.assertEqual(json.loads(done.stdout)["value"], "1", done)

    def test_a_node_may_be_written_as_a_url_or_as_a_list(self):
        node, dead = self.words["node"], self.words["dead"]
        for text in (f"http://{node}", f"http://{node}/", f"{dead},{node}", f"http://{dead}/,{dead},http://{node}"):
            for args, env in ((("--node", text), {}), ((), {"HADB_NODE": text})):
                done = hadb("get", "there", "--db", "app", *args, env=env)
                self.assertEqual((done.returncode, done.stdout), (OK, b"1"), (text, done))

    def test_keys_that_look_like_options_and_values_of_any_bytes(self):
        self.assertEqual(hadb("put", "--", "--json", "-v", env=self.env).returncode, OK)
        self.assertEqual(hadb("get", "--", "--json", env=self.env).stdout, b"-v")
        self.assertEqual(hadb("put", "bytes", "--file", "-", data=bytes(range(256)), env=self.env).returncode, OK)
        self.assertEqual(hadb("get", "bytes", env=self.env).stdout, bytes(range(256)))
        for args in (("put", b"\xff", "v"), ("get", b"\xff")):
            done = hadb(*args, "--json", env=self.env)
            self.assertEqual(json.loads(done.stdout)["key_base64"], "/w==", done)

    def test_a_token_file_that_others_can_read_is_a_warning(self):
        path = os.path.join(self.folder, "token")
        for text in ("secret", "secret\n", "secret\r\n"):
            with open(path, "w", encoding="utf-8", newline="") as file:
                file.write(text)
            for mode, warned in ((0o600, False), (0o640, False), (0o644, True)):
                os.chmod(path, mode)
                done = hadb("get", "there", "--token-file", path, env=self.env)
                self.assertEqual((done.returncode, done.stdout), (OK, b"1"), done)
                self.assertEqual(path in done.stderr.decode(), warned, (oct(mode), done.stderr))
                self.assertNotIn(b"secret", done.stderr)


class Output(EdgeTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        lines = "".join(f"row/{i:05d}\t{'x' * 100}\n" for i in range(5000))
        cls.rows = os.path.join(cls.folder, "rows")
        with open(cls.rows, "w", encoding="utf-8") as file:
            file.write(lines)
        assert hadb("load", "--format", "tsv", cls.rows, env=cls.env).returncode == OK
        cls.restored = os.path.join(cls.folder, "restored")
        done = hadb("restore", "--store", cls.words["store"], "--db", "app", "--output", cls.restored)
        assert done.returncode == OK, done

    def commands(self):
        return (("get", "there"), ("scan",), ("scan", "--json"), ("scan", "--dir", self.restored), ("status",), ("status", "--json"),
                ("put", "out", "1"), ("put", "out", "1", "--json"), ("del", "out"), ("handoff",), ("--help",), ("--version",), ("get", "--help"),
                ("verify", "--store", self.words["store"]), ("load", "--format", "tsv", self.words["tsv"]))

    def run_into(self, target, args):
        env = {**os.environ, **self.env}
        if "--dir" in args:
            env.pop("HADB_DB")
        return subprocess.run([HADB, *args], stdin=subprocess.DEVNULL, stdout=target, stderr=subprocess.PIPE, timeout=30,
                              env=env, check=False)

    def test_a_full_device_is_an_error(self):
        for args in self.commands():
            if args == ("handoff",):
                continue  # one node: nobody to hand over to
            with open("/dev/full", "wb") as full:
                done = self.run_into(full, args)
            self.assertEqual(done.returncode, FAILED, (args, done))
            self.assertIn(b"cannot write the output: No space left", done.stderr, args)

    def test_a_reader_that_goes_away_ends_it_quietly(self):
        for args in (("scan",), ("scan", "--json"), ("scan", "--dir", self.restored), ("get", "there"), ("status",)):
            reader, writer = os.pipe()
            os.close(reader)
            done = self.run_into(writer, args)
            os.close(writer)
            self.assertEqual((done.returncode, done.stderr), (-signal.SIGPIPE, b""), args)
        done = subprocess.run(["sh", "-c", '"$0" scan | head -1', HADB], env={**os.environ, **self.env}, capture_output=True,
                              timeout=30, check=False)
        self.assertEqual((done.stdout.count(b"\n"), done.stderr), (1, b""))

    def on_terminal(self, args, stdout=subprocess.DEVNULL):
        """What the command shows on a terminal that is its standard error."""
        ours, theirs = pty.openpty()
        with subprocess.Popen([HADB, *args], stdin=subprocess.DEVNULL, stdout=stdout, stderr=theirs,
                              env={**os.environ, **self.env}) as process:
            os.close(theirs)
            shown = b""
            while part := read_terminal(ours):
                shown += part
            code = process.wait(30)
        os.close(ours)
        return code, shown

    def test_progress_is_shown_on_a_terminal_and_only_there(self):
        for args, word in ((("load", "--format", "tsv", self.rows), b"load: ["), (("scan",), b"scan: "),
                           (("verify", "--store", self.words["store"]), b"verify: "),
                           (("restore", "--store", self.words["store"], "--output", f"{self.folder}/again"), b"restore: ")):
            code, shown = self.on_terminal(args)
            self.assertEqual(code, OK, shown)
            self.assertIn(word, shown)
            self.assertTrue(shown.endswith(b"\r\x1b[K"), shown[-80:])  # and it is gone at the end
            shutil.rmtree(f"{self.folder}/again", True)
            self.assertEqual(hadb(*args, env=self.env).stderr, b"", args)

    def test_an_error_does_not_stand_in_the_progress_bar(self):
        path = os.path.join(self.folder, "half")
        with open(self.rows, "rb") as rows, open(path, "wb") as file:
            file.write(rows.read() + b"no tab here\n")
        code, shown = self.on_terminal(("load", "--format", "tsv", path))
        self.assertEqual(code, FAILED)
        self.assertRegex(shown, rb"(\r\x1b\[K|\n)hadb load: [^\r\n]*half:5001: [^\r\n]*\r\n$")

    def test_a_value_asked_for_on_a_terminal_is_announced(self):
        ours, theirs = pty.openpty()
        with subprocess.Popen([HADB, "put", "typed"], stdin=theirs, stdout=subprocess.PIPE, stderr=theirs,
                              env={**os.environ, **self.env}) as process:
            os.close(theirs)
            hint = read_terminal(ours, 10)
            process.kill()
        os.close(ours)
        self.assertIn(b"Ctrl-D", hint)


if __name__ == "__main__":
    main()
