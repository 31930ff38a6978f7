#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What does an idle cluster ask of its servers? scripts/bench.sh idle [--store s3] [--lease s3|nats|etcd|redis|http] …

Starts nodes with many databases, waits until all of them have a leader that everybody follows, and counts for a while
every request that reaches the storage and the lease server: a relay in front of each server reads what the nodes send, so
nothing here rests on the nodes' own counters. Promise: one lease renewal per node and ttl/3, and nothing else. Exit code 1
when it does not hold.
"""
import argparse
import base64
import collections
import contextlib
import json
import os
import re
import signal
import socket
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import servers  # noqa: E402
from cluster import Client, Cluster, Failure, wait_for  # noqa: E402

SETTLE_SECONDS = 300     # until every database is led and followed
QUIET_SECONDS = 4        # without any other request: the start is over
QUIET_SECONDS_MAX = 60
HANDOVERS = 4            # at a time


class Broken(Exception):
    """The bytes are not what this protocol looks like."""


def http_requests(data):
    """Takes whole requests from the front of a bytearray: [(method, path)]."""
    out = []
    while True:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return out
        lines = bytes(data[:end]).split(b"\r\n")
        words = lines[0].split()
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            raise Broken(lines[0])
        size = 0
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                size = int(value)
            elif name.lower() == b"transfer-encoding":
                raise Broken(line)
        if len(data) < end + 4 + size:
            return out
        # etcd names what it writes in the body.
        key = re.search(rb'"key":"([^"]+)"', data[end:end + 4 + size]) if words[1].startswith(b"/v3/kv/") else None
        path = words[1].decode().split("?")[0] + (" " + base64.b64decode(key.group(1)).decode() if key else "")
        del data[:end + 4 + size]
        out.append((words[0].decode(), path))


def redis_requests(data):
    """Arrays of bulk strings; what is named is the command and its key."""
    out = []
    while True:
        words, at = [], 0
        head = data.find(b"\r\n")
        if head < 0:
            return out
        if data[:1] != b"*":
            raise Broken(data[:20])
        at = head + 2
        for _ in range(int(data[1:head])):
            end = data.find(b"\r\n", at)
            if end < 0:
                return out
            size = int(data[at + 1:end])
            if len(data) < end + 2 + size + 2:
                return out
            words.append(bytes(data[end + 2:end + 2 + size]))
            at = end + 2 + size + 2
        del data[:at]
        name = words[0].decode().upper()
        key = words[3] if name.startswith("EVAL") else words[1] if name.startswith("H") else b""
        out.append((name, key.decode(errors="replace")))


def nats_requests(data):
    """Publications and subscriptions. Greeting and keep-alive are no requests, and the inbox of an answer is part of one."""
    out = []
    while True:
        end = data.find(b"\r\n")
        if end < 0:
            return out
        words = bytes(data[:end]).decode().split()
        name = words[0].upper()
        size = int(words[-1]) + 2 if name in ("PUB", "HPUB") else 0
        if len(data) < end + 2 + size:
            return out
        del data[:end + 2 + size]
        if name in ("PUB", "HPUB", "SUB"):
            if name != "SUB" or not words[1].startswith("_INBOX."):
                out.append((name, words[1]))
        elif name not in ("CONNECT", "PING", "PONG", "UNSUB"):
            raise Broken(name)


def is_renewal(method, path):
    """A write of a node's record in any of the lease stores."""
    if "/log/" in path or "/snap/" in path:
        return False
    return (method == "PUT" and re.search(r"/node/[^/]+$", path) is not None or method in ("EVAL", "EVALSHA")
            or method == "HPUB" and ".node/" in path or path.startswith("/v3/kv/txn "))


class Tap:
    """A relay on a free port of loopback that notes every request: (when, method, path)."""

    def __init__(self, port, parse):
        self.target, self.parse = port, parse
        self.seen, self.broken = [], []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        with client, socket.create_connection(("127.0.0.1", self.target)) as server:
            for sock in (client, server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.pump, args=(server, client, None), daemon=True).start()
            self.pump(client, server, bytearray())

    def pump(self, source, sink, data):
        try:
            while chunk := source.recv(65536):
                if data is not None:
                    data += chunk
                    now = time.monotonic()
                    self.seen += [(now, *request) for request in self.parse(data)]
                sink.sendall(chunk)
        except OSError:
            pass
        except (Broken, ValueError, IndexError) as problem:
            self.broken.append(f"{self.parse.__name__}: {problem!r}")
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


PARSERS = {"s3": http_requests, "http": http_requests, "etcd": http_requests, "redis": redis_requests,
           "nats": nats_requests}


class Idle:
    def __init__(self, args, started):
        self.args, self.taps, self.problems = args, {}, []
        databases = [f"d{i:04d}=kv" for i in range(args.databases)]
        names = [f"n{i + 1}" for i in range(args.nodes)]
        self.cluster = Cluster(args.binary, names=names, databases=databases, keep=args.keep,
                               store=self.tapped(started.store), lease=self.tapped(started.lease),
                               ttl_ms=args.ttl_ms)

    def tapped(self, url):
        """The URL with each port of loopback replaced by that of a relay."""
        def through(match):
            port = int(match.group(1))
            if port not in self.taps:
                self.taps[port] = Tap(port, PARSERS[url.split(":")[0]])
            return f"127.0.0.1:{self.taps[port].port}"

        return url and re.sub(r"127\.0\.0\.1:(\d+)", through, url)

    def requests(self, since):
        return sorted(request for tap in self.taps.values() for request in list(tap.seen)
                      if request[0] >= since)

    def others(self, since):
        return [request for request in self.requests(since) if not is_renewal(*request[1:])]

    def settled(self):
        """Every database has one leader, and all nodes agree on it and have what it has."""
        leaders, positions = {}, collections.defaultdict(set)
        for node in self.cluster.nodes:
            reply = Client(node.address, timeout=30).once("GET", "/v1/status")
            if reply.status != 200:
                return None
            for view in reply.json()["databases"]:
                positions[view["name"]].add((view["term"], view["applied_txid"], (view["leader"] or {}).get("node")))
                if view["role"] == "leader":
                    leaders[view["name"]] = node.name
        led = len(leaders) == self.args.databases
        return leaders if led and all(len(one) == 1 for one in positions.values()) else None

    def quiet(self):
        since = time.monotonic() - QUIET_SECONDS
        return time.monotonic() - self.started > QUIET_SECONDS and not self.others(since)

    def rate(self, renewals, end):
        """Renewals per ttl/3 of the node that renews most often: how many come within whole thirds after its first."""
        times = collections.defaultdict(list)
        for when, _, path in renewals:
            times[path].append(when)
        third, rates = self.args.ttl_ms / 3000, []
        for at in times.values():
            thirds = int((end - at[0]) / third)
            rates.append(sum(1 for when in at[1:] if when <= at[0] + thirds * third) / max(thirds, 1))
        if len(times) != self.args.nodes:
            raise Failure(f"{len(times)} of {self.args.nodes} nodes renewed their record: {sorted(times)}")
        return max(rates)

    def spread(self, leaders):
        """Planned hand-offs, until each node leads its share: then every node follows every other."""
        names = [node.name for node in self.cluster.nodes]
        work = [(name, names[i % len(names)]) for i, name in enumerate(sorted(leaders))]
        wanted = [one for one in work if one[1] != leaders[one[0]]]

        def hand_over(share):
            for database, to in share:
                client = Client(self.cluster.node(leaders[database]).address, timeout=30)
                reply = client.once("POST", f"/v1/db/{database}/handoff", json.dumps({"to": to}).encode(),
                                       {"Hadb-Deadline-Ms": "20000"})
                if reply.status != 200:
                    self.problems.append(f"hand-off of {database} to {to}: {reply!r}")

        threads = [threading.Thread(target=hand_over, args=(wanted[i::HANDOVERS],)) for i in range(HANDOVERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.problems:
            raise Failure(self.problems[0])

    def run(self):
        self.started = time.monotonic()
        with self.cluster:
            leaders = wait_for("a leader for every database", SETTLE_SECONDS, self.settled, 0.5)
            opened = time.monotonic()
            self.spread(leaders)
            leaders = wait_for("a leader for every database", SETTLE_SECONDS, self.settled, 0.5)
            self.started, begun = time.monotonic(), opened - self.started
            with contextlib.suppress(Failure):  # what goes on is counted
                wait_for("a quiet cluster", QUIET_SECONDS_MAX, self.quiet, 0.2)
            since = time.monotonic()
            time.sleep(self.args.seconds)
            end = time.monotonic()
            requests = [one for one in self.requests(since) if one[0] <= end]
            still = self.settled() == leaders
        broken = [text for tap in self.taps.values() for text in tap.broken]
        if broken:
            raise Failure(f"a relay did not understand what it saw: {broken[0]}")
        if not still:
            raise Failure("leaders changed while nothing was written")
        renewals = [request for request in requests if is_renewal(*request[1:])]
        others = [request for request in requests if not is_renewal(*request[1:])]
        before = [request for request in self.requests(0) if request[0] < since]
        if sum(1 for _, method, path in before if method == "PUT" and "/log/" in path) < self.args.databases:
            raise Failure("the relays did not even see the databases being made")
        kinds = collections.Counter(f"{method} {kind_of(path)}" for _, method, path in others)
        return {"bench": "idle", "requests": len(requests), "renewals": len(renewals), "other": len(others),
                "per_node_per_third": round(self.rate(renewals, end), 3), "nodes": self.args.nodes,
                "databases": self.args.databases, "ttl_ms": self.args.ttl_ms, "seconds": self.args.seconds,
                "opened_s": round(begun, 1), "quiet_s": round(since - self.started, 1), "requests_before": len(before),
                "leaders": dict(collections.Counter(leaders.values())), "others": dict(kinds.most_common(10))}


def kind_of(path):
    """Ids and numbers as *, so that requests of one kind count together."""
    return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{16,}", "*", path)


def parse():
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=os.path.join(root, "build-release", "hadb"), metavar="PATH")
    parser.add_argument("--store", default="s3", metavar="S3|URL")
    parser.add_argument("--lease", default="s3", metavar="KIND|URL")
    parser.add_argument("--nodes", type=int, default=3, metavar="N")
    parser.add_argument("--databases", type=int, default=1000, metavar="N")
    parser.add_argument("--ttl-ms", type=int, default=5000, metavar="T")
    parser.add_argument("--seconds", type=float, default=20, metavar="N", help="count for so long (default %(default)g)")
    parser.add_argument("--keep", action="store_true", help="keep the folder with data and logs")
    parser.add_argument("--json", action="store_true", help="one JSON object, last on stdout")
    return parser.parse_args()


def main():
    args = parse()
    signal.signal(signal.SIGTERM, servers.end)
    with servers.Servers(args.store, args.lease, args.binary) as started:
        os.environ.update(started.environment())
        try:
            figures = Idle(args, started).run()
        except Failure as problem:
            print(f"idle: {problem}", file=sys.stderr)
            return 1
    if args.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:<26} {json.dumps(value)}")
    return 0 if figures["other"] == 0 and figures["per_node_per_third"] <= 1 else 1


if __name__ == "__main__":
    sys.exit(main())
