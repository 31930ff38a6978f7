#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What README.md and docs/ show works: every `$ …` line of a console block runs as it stands, and prints what stands below it
("…" stands for anything). Only ports and folders are exchanged for free ones."""
import os
import re
import select
import shutil
import socket
import subprocess
import tempfile
import unittest

from e2e import ROOT, ClusterTest, HADB, main


def steps_of(name):
    """The commands of a page in order: [(command, lines below it)]."""
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        blocks = re.findall(r"```console\n(.*?)```", file.read(), re.S)
    steps = []
    for line in "".join(blocks).splitlines():
        if line.startswith("$ "):
            steps.append((line[2:], []))
        else:
            steps[-1][1].append(line)
    return steps


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


class Shell:
    """Runs commands one by one, as a terminal would: exports stay, `&` runs in the background, %1 is the first of those."""

    def __init__(self, test, env):
        self.test, self.jobs = test, []
        self.work = tempfile.mkdtemp(prefix="hadb-manual-")
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("HADB_")}
        self.env.update(env, PATH=f"{os.path.dirname(HADB)}:{os.environ['PATH']}")
        test.addCleanup(self.close)

    def close(self):
        for job in self.jobs:
            job.kill()
            job.wait(10)
            job.stdout.close()
        shutil.rmtree(self.work, ignore_errors=True)

    def run(self, command, wanted):
        code, text = 0, ""
        if command.startswith("export "):
            self.env.update(part.split("=", 1) for part in command.split()[1:])
        elif command.endswith("&"):
            text = self.start(command[:-1])
        else:
            command = re.sub(r"%(\d)", lambda m: str(self.jobs[int(m[1]) - 1].pid), command)
            done = subprocess.run(["sh", "-c", command], cwd=self.work, env=self.env, capture_output=True, timeout=60, check=False)
            code, text = done.returncode, (done.stdout + done.stderr).decode().rstrip("\n")
        expected = re.search(r"# exit code (\d)$", command)
        self.test.assertEqual(code, int(expected[1]) if expected else 0, (command, text))
        pattern = r"\n".join(re.escape(line).replace("…", ".*") for line in wanted)
        self.test.assertRegex(text, rf"(?s)^{pattern}$", command)

    def start(self, command):
        """In the background; its first line."""
        job = subprocess.Popen(["sh", "-c", f"exec {command}"], cwd=self.work, env=self.env, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.jobs.append(job)
        self.test.assertTrue(select.select([job.stdout], [], [], 20)[0], f"silent for 20 s: {command}")
        return job.stdout.readline().decode().rstrip("\n")


class Manual(ClusterTest):
    databases = ("app=kv", "fruit=kv")

    def pages(self, name, count):
        nodes = self.cluster.nodes
        shell = Shell(self, {"HADB_NODE": nodes[0].address, "HADB_DB": "app", "STORE": f"file://{self.cluster.folder}/store",
                             "LEASE": f"file://{self.cluster.folder}/lease"})
        steps = steps_of(name)
        self.assertGreaterEqual(len(steps), count)
        for command, wanted in steps:
            for port, node in zip(("4281", "4282"), nodes):
                command = command.replace(f"127.0.0.1:{port}", node.address)
            shell.run(command, wanted)

    def test_the_page_of_the_program(self):
        self.pages("docs/cli.md", 20)

    def test_the_page_of_the_doctor(self):
        self.pages("docs/doctor.md", 3)

    def test_the_page_of_the_http_interface(self):
        self.pages("docs/http.md", 4)


class Readme(unittest.TestCase):
    def test_the_first_steps(self):
        shell = Shell(self, {})
        words = {"/tmp/demo": f"{shell.work}/demo", "4281": free_port(), "4282": free_port()}
        steps = steps_of("README.md")
        self.assertGreaterEqual(len(steps), 8)
        for command, wanted in steps:
            for old, new in words.items():
                command, wanted = command.replace(old, new), [line.replace(old, new) for line in wanted]
            shell.run(command, wanted)


if __name__ == "__main__":
    main()
