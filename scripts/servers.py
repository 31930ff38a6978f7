#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a program of ours over servers of its own: servers.py COMMAND... [--store s3|http] [--lease s3|nats|etcd|redis|http]

Each server that is named listens on a free port of loopback, has its own folder and is ended by its process id; the
command finds its URL in place of the name, and credentials of S3 in the environment. One MinIO serves store and lease. The
classes that start them are those of the tests (tests/support/with_lease.py). `--lease file` is a folder of the command's own.
"""
import contextlib
import os
import signal
import subprocess
import sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "tests", "support")]
import with_lease  # noqa: E402
import with_storage  # noqa: E402

LEASES = {"s3": with_lease.Minio, "nats": with_lease.Nats, "etcd": with_lease.Etcd, "redis": with_lease.Redis,
          "http": with_lease.Http}
STORES = {"s3": with_lease.Minio, "http": with_storage.Http}


class Servers:
    """What store and lease need, by name or URL. A context manager; .store, .lease are URLs or None."""

    def __init__(self, store, lease, program):
        self.running, self.added = {}, {}
        os.environ["HADB_TEST_PROGRAM"] = os.path.abspath(program)  # for `hadb lease-server` and `hadb storage-server`
        try:
            self.store = self.url(STORES, store, "store")
            self.lease = None if lease == "file" else self.url(LEASES, lease, "lease")
        except BaseException:
            self.close()
            raise

    def url(self, kinds, wanted, purpose):
        if wanted not in kinds:
            return wanted
        kind = kinds[wanted]
        if kind not in self.running:
            self.running[kind] = kind()
        server = self.running[kind]
        if kind is with_lease.Minio:
            self.added.update(with_lease.aws("", server.credentials))
            del self.added["HADB_TEST_LEASE_URL"]
        return server.url(server.port).replace("UNIQUE", purpose)

    def environment(self):
        """This process's, with nothing else that could give credentials of S3."""
        if not self.added:
            return dict(os.environ)
        return {**{n: v for n, v in os.environ.items() if not n.startswith("AWS_")}, **self.added}

    def close(self):
        for server in self.running.values():
            server.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.close()


def take(words, name):
    """The last value of an option, which is removed with its name; None."""
    value, rest = None, []
    while words:
        word = words.pop(0)
        if word == name and words:
            value = words.pop(0)
        elif word.startswith(name + "="):
            value = word[len(name) + 1:]
        else:
            rest.append(word)
    words += rest
    return value


def end(number, _frame):
    raise SystemExit(128 + number)


def main():
    command = sys.argv[1:]
    if not command:
        raise SystemExit(__doc__.splitlines()[0])
    store, lease = take(command, "--store"), take(command, "--lease")
    beside = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(command[0]))), "hadb")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    with Servers(store, lease, os.environ.get("HADB_TEST_PROGRAM", beside)) as servers:
        for name in ("store", "lease"):
            if getattr(servers, name):
                command += [f"--{name}", getattr(servers, name)]
        with subprocess.Popen(command, env=servers.environment()) as process:
            try:
                code = process.wait()
            except BaseException:
                process.terminate()
                with contextlib.suppress(KeyboardInterrupt):
                    process.wait()
                raise
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
