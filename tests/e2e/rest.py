# SPDX-License-Identifier: Apache-2.0
"""What the tests of `hadb lease-server` and `hadb storage-server` share: a server of their own, and what both command lines refuse."""
import http.client
import json
import os
import re
import select
import shutil
import socket
import subprocess
import tempfile
import threading

from e2e import HADB

TOKEN = "s3cret-token"


class Service:
    """hadb VERB --OPTION STORE on a free port."""

    def __init__(self, test, verb, option, store, *more):
        self.folder = tempfile.mkdtemp(prefix=f"hadb-{verb}-")
        test.addCleanup(shutil.rmtree, self.folder, True)
        token = os.path.join(self.folder, "token")
        with open(token, "w", encoding="ascii") as out:
            out.write(TOKEN)
        os.chmod(token, 0o600)
        self.command = [HADB, verb, option, store, "--token-file", token, *more, "--listen"]
        self.process = None
        test.addCleanup(self.close)
        self.start("127.0.0.1:0")

    def start(self, listen):
        self.process = subprocess.Popen([*self.command, listen], stdout=subprocess.PIPE, text=True)
        assert select.select([self.process.stdout], [], [], 20)[0]
        line = self.process.stdout.readline()
        self.address = re.fullmatch(r"ready (127\.0\.0\.1:\d+) pid \d+\n", line)[1]

    def restart(self):
        """Kills it, and starts another one at its address."""
        self.close()
        self.start(self.address)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self.process.stdout.close()

    def ask(self, method, path, body=None, token=TOKEN, timeout=20, **headers):
        connection = http.client.HTTPConnection(self.address, timeout=timeout)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            headers["Authorization"] = "Bearer " + token
        try:
            connection.request(method, path, body, headers)
            reply = connection.getresponse()
            return reply.status, reply.headers, reply.read()
        finally:
            connection.close()


class Refusals:
    """For test cases."""

    def refused(self, reply, status, error):
        self.assertEqual(reply[0], status, reply)
        self.assertEqual(reply[1]["Hadb-Error"], error)
        body = json.loads(reply[2])
        self.assertEqual(set(body), {"error", "message"})
        self.assertEqual(body["error"], error, body)

    def in_background(self, *args, **headers):
        """A request: its thread, and where its answer will be, once joined."""
        answers = []

        def run():
            try:
                answers.append(self.ask(*args, **headers))
            except (OSError, http.client.HTTPException) as problem:  # the server ended
                answers.append((0, {"ETag": ""}, str(problem).encode()))

        thread = threading.Thread(target=run)
        thread.start()
        self.addCleanup(thread.join)
        return thread, answers


class CommandLine:
    """For test cases: verb and option are theirs."""

    def fails(self, code, words, *args):
        done = subprocess.run([HADB, self.verb, *args], capture_output=True, text=True, timeout=20, check=False)
        self.assertEqual((done.returncode, done.stdout), (code, ""), done.stderr)
        self.assertIn(words, done.stderr)

    def test_what_can_never_work_is_said_at_once(self):
        store = (self.option, "mem:")
        self.fails(2, f"needs {self.option}")
        self.fails(2, "one argument too many", *store, "x")
        self.fails(2, "no option", *store, "--frob")
        self.fails(2, "write ADDR:PORT", *store, "--listen", "4290")
        self.fails(2, "write ADDR:PORT", *store, "--listen", "localhost:1")
        self.fails(2, "write ADDR:PORT", *store, "--listen", "127.0.0.1:x")
        self.fails(2, "go together", *store, "--tls-cert", "/x")
        self.fails(2, "scheme gopher", self.option, "gopher://x")
        self.fails(8, "--token-file is required", *store, "--listen", "0.0.0.0:0")
        self.fails(8, "--token-file is required", *store, "--listen", "[::]:0")
        self.fails(8, "cannot be read", *store, "--tls-cert", "/nonexistent/c", "--tls-key", "/nonexistent/k")
        self.fails(8, "No such file", *store, "--token-file", "/nonexistent/token")
        with tempfile.NamedTemporaryFile() as nonsense:
            self.fails(1, "do not fit", *store, "--listen", "127.0.0.1:0", "--tls-cert", nonsense.name,
                       "--tls-key", nonsense.name)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            self.fails(1, "cannot listen", *store, "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
