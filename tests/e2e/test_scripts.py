#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""scripts/ on machines that lack something: what they install and how, how they fail, and that an interrupted main job leaves nothing
behind. Package tools are stand-ins that write down how they were called."""
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import unittest
import unittest.mock

from e2e import ROOT, HADB, main, wait_for

TOOLS = {
    "dpkg-query": 'case " $INSTALLED " in *" $4 "*) printf installed ;; *) exit 1 ;; esac',
    "id": 'echo "$USER_ID"',
    "sleep": "exit 0",
    "apt-get": 'case "$1" in update) exit "${UPDATE:-0}" ;; esac\n'
               'if [ "${INSTALL:-0}" != 0 ]; then echo "noise"; echo "E: no such host" >&2; exit 1; fi',
    "sudo": 'exec "$@"',
}


sys.path.insert(0, os.path.join(ROOT, "tests", "support"))
import with_lease  # noqa: E402
import with_s3  # noqa: E402


class MissingServers(unittest.TestCase):
    """Every wrapper around a real server skips without its program, and fails where skipping is not allowed."""

    def code(self, start, required):
        nothing = subprocess.CompletedProcess([], 77, "")
        with unittest.mock.patch("shutil.which", lambda *_, **__: None), \
                unittest.mock.patch("subprocess.run", lambda *_, **__: nothing), \
                unittest.mock.patch.dict(os.environ, {"REQUIRE_REAL_STORES": required}), \
                self.assertRaises(SystemExit) as left:
            start()
        return left.exception.code

    def test_are_skipped_or_failures(self):
        own = ("scripted", "http", "http-tls")
        kinds = {name: kind for name, kind in with_lease.KINDS.items() if name not in own}
        self.assertGreaterEqual(len(kinds), 9)
        for name, start in {**kinds, "with_s3": with_s3.minio.Minio}.items():
            with self.subTest(name):
                self.assertEqual(self.code(start, ""), 77)
                self.assertEqual(self.code(start, "1"), 1)

    def test_are_failures_in_ci(self):
        with open(os.path.join(ROOT, ".ci", "run"), encoding="utf-8") as run:
            self.assertRegex(run.read(), r"(?m)^export REQUIRE_REAL_STORES=1$")


class Packages(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="hadb-scripts-")
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.calls = os.path.join(self.folder, "calls")
        self.tools = os.path.join(self.folder, "bin")
        os.mkdir(self.tools)
        for name, text in TOOLS.items():
            self.tool(name, text)
        for name in ("bash", "env", "sed", "head", "mktemp", "rm", "dirname"):
            os.symlink(shutil.which(name), os.path.join(self.tools, name))

    def tool(self, name, text):
        path = os.path.join(self.tools, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(f'#!{shutil.which("bash")}\necho "{name} $*" >> "{self.calls}"\n{text}\n')
        os.chmod(path, stat.S_IRWXU)

    def install(self, *packages, **env):
        script = f'set -euo pipefail; . "$0"; install_packages {" ".join(packages)}; echo done'
        done = subprocess.run([os.path.join(self.tools, "bash"), "-c", script, os.path.join(ROOT, "scripts", "lib.sh")],
                              env={"PATH": self.tools, "USER_ID": "0", "INSTALLED": "", **env}, capture_output=True, timeout=30,
                              check=False)
        with open(self.calls, encoding="utf-8") as file:
            calls = [line for line in file.read().splitlines() if line.startswith(("apt-get", "sudo"))]
        return done, calls

    def test_nothing_is_called_when_nothing_is_missing(self):
        done, calls = self.install("one", "two", INSTALLED="one two")
        self.assertEqual((done.returncode, done.stdout, done.stderr, calls), (0, b"done\n", b"", []))

    def test_what_is_missing_is_installed_without_questions(self):
        done, calls = self.install("one", "two", INSTALLED="one")
        self.assertEqual((done.returncode, len(calls)), (0, 2), calls)
        self.assertTrue(calls[0].startswith("apt-get update"))
        self.assertRegex(calls[1], r"^apt-get install -y .*--no-install-recommends .* two$")

    def test_an_ordinary_user_needs_sudo(self):
        done, calls = self.install("one", USER_ID="1000")
        self.assertEqual((done.returncode, [call.split()[0] for call in calls]), (0, ["sudo", "apt-get"] * 2))
        os.unlink(os.path.join(self.tools, "sudo"))
        os.unlink(self.calls)
        done, calls = self.install("one", USER_ID="1000")
        self.assertEqual((done.returncode, calls), (1, []))
        self.assertRegex(done.stderr, rb"^error: [^\n]*needs root or sudo: one\n$")

    def test_without_a_network_it_tries_again_and_ends_with_one_clear_line(self):
        done, calls = self.install("one", UPDATE="100", INSTALL="100")
        self.assertEqual((done.returncode, len(calls)), (1, 8), calls)
        words = done.stderr.decode().splitlines()
        self.assertEqual(len([line for line in words if line.startswith("error: ")]), 1, words)
        self.assertIn("could not install one: no such host; check the network", words[-1])
        self.assertNotIn("noise", done.stderr.decode())

    def test_old_package_lists_are_good_enough(self):
        done, calls = self.install("one", UPDATE="100")
        self.assertEqual((done.returncode, done.stdout, len(calls)), (0, b"done\n", 5), calls)

    def named(self, *words):
        """What install_named_servers would install, and whether it looked for MinIO."""
        minio = os.path.join(self.folder, "minio")
        with open(minio, "w", encoding="utf-8") as file:
            file.write("#!/bin/sh\n")
        os.chmod(minio, stat.S_IRWXU)
        script = 'set -euo pipefail; . "$0"; install_servers() { echo "$@"; }; install_named_servers "$@"'
        done = subprocess.run(["bash", "-c", script, os.path.join(ROOT, "scripts", "lib.sh"), *words],
                              env={**os.environ, "MINIO_BIN": minio}, capture_output=True, timeout=30, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.decode().split(), b"MinIO" in done.stderr

    def test_only_the_servers_that_are_named_are_installed(self):
        self.assertEqual(self.named("--keep"), ([], False))
        self.assertEqual(self.named("--lease", "nats", "--keep"), (["nats-server"], False))
        self.assertEqual(self.named("--store", "s3", "--lease=etcd"), (["etcd-server"], True))
        self.assertEqual(self.named("--lease", "redis", "--store=s3"), (["redis-server"], True))
        self.assertEqual(self.named("--lease", "s3"), ([], True))
        self.assertEqual(self.named("--lease", "s3", "--lease", "redis"), (["redis-server"], False))
        self.assertEqual(self.named("--store", "file:///x", "--lease", "nats://127.0.0.1/b"), ([], False))


class Interrupted(unittest.TestCase):
    def processes(self, word):
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    if word.encode() in file.read():
                        found.append(int(pid))
            except OSError:
                pass
        return found

    def test_nothing_is_left_of_an_interrupted_main_job(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            folder = tempfile.mkdtemp(prefix="hadb-interrupted-")
            self.addCleanup(shutil.rmtree, folder, True)
            process = subprocess.Popen([sys.executable, os.path.join(ROOT, "scripts", "mainjob.py"), "--binary", HADB],
                                       env={**os.environ, "TMPDIR": folder}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            try:
                line = b""
                while not line.startswith(b"write"):  # nodes and writers run
                    line = process.stdout.readline()
                    self.assertTrue(line, "it ended by itself")
                self.assertEqual(len(self.processes(folder)), 3)
                process.send_signal(number)
                process.send_signal(number)  # impatience; whenever the second one comes, the result is the same
                words = process.communicate(timeout=30)[1].decode()
            finally:
                process.kill()
                process.wait()
            self.assertEqual(process.returncode, 128 + number, words)
            self.assertEqual(words, f"ended by {signal.Signals(number).name}\n")
            wait_for("no process left", 5, lambda folder=folder: not self.processes(folder))
            self.assertEqual(os.listdir(folder), [])


if __name__ == "__main__":
    main()
