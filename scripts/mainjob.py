#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The main job: a replicated key-value database on three nodes loses no acknowledged write.

Three `hadb node` processes over a folder. Loads this machine's package database, writes numbered records through all
nodes in DURABLE mode while the leader is killed (SIGKILL), stopped past its TTL (SIGSTOP) and relieved by plan, then
checks every node and a restored copy against what was acknowledged. Exit code 0 only if all of it holds.

Exactly once: each record has a key of its own, is created with ?if_absent under one request id, and every retry carries
the same id. A record that ran twice shows as 412 on the retry, or as a version at the end that is not the one acknowledged.
"""
import argparse
import base64
import filecmp
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import servers  # noqa: E402
from cluster import Client, Cluster, Failure, request_id, wait_for  # noqa: E402

DB = "main"
DPKG = "/var/lib/dpkg/status"
TTL_MS = 2000
WRITE_SECONDS = 12      # deadline of one record, retries included
ATTEMPT_SECONDS = 3     # of one attempt: then the same request id goes to another node
AVOID_SECONDS = 5       # … and the silent one is left alone for so long
TOTAL_SECONDS = 58      # the whole job gives up after this
WRITERS = 6             # two per node
ENDINGS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def term_of(version):
    """Versions are opaque to applications; this script knows that they start with the term."""
    return int(version.split(".")[0])


class Writer(threading.Thread):
    """Writes numbered records through one node after another and remembers what was acknowledged."""

    def __init__(self, job, index):
        super().__init__(daemon=True)
        self.job, self.index = job, index
        self.acked, self.unknown, self.retries = {}, set(), 0
        self.turn, self.avoid = index, {}

    def next_client(self, clients):
        """One node after another, without those that were silent a moment ago."""
        for _ in clients:
            self.turn += 1
            client = clients[self.turn % len(clients)]
            if self.avoid.get(client, 0) < time.monotonic():
                break
        return client

    def run(self):
        clients = [Client(node.address, timeout=ATTEMPT_SECONDS + 1) for node in self.job.cluster.nodes]
        number = 0
        while not self.job.stop.is_set():
            try:
                self.write(clients, f"record/{self.index}/{number:06d}")
            except Exception as error:  # the main thread reports it
                self.job.problems.append(f"writer {self.index}: {error!r}")
                return
            number += 1
            time.sleep(0.001)

    def write(self, clients, key):
        identity, until = request_id(), time.monotonic() + WRITE_SECONDS
        value = f"{key} written by writer {self.index}".encode()
        while True:
            client = self.next_client(clients)
            reply = client.kv("PUT", DB, key, value, "if_absent", request_id=identity,
                              deadline_ms=ATTEMPT_SECONDS * 1000)
            if reply.status == 200:
                self.acked[key] = (reply.version, value)
                self.job.acks.append((time.monotonic(), term_of(reply.version)))
                return
            if reply.status not in (0, 503, 504):
                self.unknown.add(key)
                self.job.problems.append(f"{key}: {reply!r}")
                return
            if time.monotonic() >= until:
                self.unknown.add(key)
                self.job.problems.append(f"{key}: no answer within {WRITE_SECONDS} s, last {reply!r}")
                return
            self.retries += 1
            if reply.status == 0:
                self.avoid[client] = time.monotonic() + AVOID_SECONDS
            time.sleep(0.005)


class Job:
    def __init__(self, args):
        self.args = args
        self.rows, self.acks, self.problems = [], [], []
        self.stop = threading.Event()
        self.writers = []
        self.numbers = {}
        self.cluster = Cluster(args.binary, databases=(f"{DB}=kv,ack=durable",), keep=args.keep,
                               store=args.store, lease=args.lease, ttl_ms=TTL_MS)
        self.folder = self.cluster.folder
        self.store = args.store or f"file://{self.folder}/store"

    # ---- output ----
    def row(self, phase, what, result, ms=None):
        self.rows.append({"phase": phase, "what": what, "result": result, "ms": ms})
        if not self.args.json:
            shown = "" if ms is None else f"{ms:.0f}"
            print(f"{phase:<9} {what:<45} {result:<39} {shown:>6}", flush=True)

    def timed(self, phase, what, work):
        started = time.monotonic()
        result = work()
        self.row(phase, what, result, (time.monotonic() - started) * 1000)

    def hadb(self, *args, output=None):
        """The program; Failure with its own words unless it exits with 0. Returns stdout, or writes it to a file."""
        with open(output, "wb") if output else open(os.devnull, "wb") as file:
            done = subprocess.run([self.args.binary, *args], stdout=file if output else subprocess.PIPE,
                                  stderr=subprocess.PIPE, timeout=40, check=False)
        if done.returncode != 0:
            words = done.stderr.decode(errors="replace").strip()
            raise Failure(f"hadb {args[0]} ended with {done.returncode}: {words}")
        return done.stdout

    # ---- phases ----
    def start(self):
        for node in self.cluster.nodes:
            node.start()
        return f"{self.cluster.leader().name} leads"

    def load(self):
        text = self.hadb("load", "--node", self.cluster.nodes[-1].address, "--db", DB, "--format",
                         "stanza", "--json", DPKG)
        loaded = json.loads(text)["records"]
        if loaded != self.stanzas:
            raise Failure(f"{DPKG} has {self.stanzas} stanzas, {loaded} were loaded")
        return f"{loaded} stanzas through {self.cluster.nodes[-1].name}"

    def start_writers(self):
        self.writers = [Writer(self, i) for i in range(WRITERS)]
        for writer in self.writers:
            writer.start()
        self.wait_acks(100)
        return f"{WRITERS} writers through {len(self.cluster.nodes)} nodes"

    def wait_acks(self, count, term=0, seconds=15):
        """Waits for more acknowledgements, of a later term than @term."""
        begin = max(0, len(self.acks) - 2000)
        base = 0 if term else len(self.acks)

        def enough():
            if term:
                return sum(1 for ack in self.acks[begin:] if ack[1] > term) >= count
            return len(self.acks) - base >= count

        wait_for(f"{count} acknowledged writes" + (f" after term {term}" if term else ""), seconds, enough,
                 0.005)

    def gap_ms(self, since):
        """The longest time without any acknowledgement that touches since..now."""
        times = sorted(ack[0] for ack in self.acks)
        pairs = [(later - earlier) * 1000 for earlier, later in zip(times, times[1:]) if later > since]
        return max(pairs)

    def change(self, fault):
        """One leadership change: settles, runs fault(leader), returns (old leader, its term, new leader, gap)."""
        old, view = wait_for("a settled leader", 20, self.cluster.settled)
        self.wait_acks(50)
        since = time.monotonic()
        fault(old)
        self.wait_acks(20, view["term"])
        gap = self.gap_ms(since)
        return old, view["term"], self.cluster.new_leader(old), gap

    def kill(self):
        old, term, new, gap = self.change(lambda node: node.kill())
        self.row("kill", f"SIGKILL to the leader {old.name}",
                 f"{new.name} leads term {new.status(DB)['term']}; gap", gap)
        self.numbers["kill_gap_ms"] = gap
        started = time.monotonic()
        old.start()
        self.follows(old)
        self.row("", f"{old.name} started again", "follows, caught up",
                 (time.monotonic() - started) * 1000)
        return term

    def follows(self, node):
        goal = next(view for view in self.cluster.views().values() if view)["durable_txid"]

        def check():
            settled = self.cluster.settled()
            view = settled and settled[0] is not node and node.status(DB)
            return view and view["role"] == "follower" and view["applied_txid"] >= goal

        wait_for(f"{node.name} as a follower that has caught up", 20, check)

    def pause(self):
        old, term, new, gap = self.change(lambda node: node.signal(signal.SIGSTOP))
        self.row("stop", f"SIGSTOP to the leader {old.name}, TTL {TTL_MS} ms",
                 f"{new.name} leads term {new.status(DB)['term']}; gap", gap)
        self.numbers["stop_gap_ms"] = gap
        # A durable write put into the sleeper's connection: awake again, it must not be acknowledged in the old term.
        key, identity = "zombie/write", request_id()
        answers = []
        client = Client(old.address, timeout=12)
        thread = threading.Thread(target=lambda: answers.append(client.kv(
            "PUT", DB, key, b"z", "if_absent", request_id=identity, deadline_ms=8000)))
        thread.start()
        time.sleep(0.2)  # it is in the sleeper's socket by now; nothing depends on it
        started = time.monotonic()
        old.signal(signal.SIGCONT)
        thread.join(15)
        client.close()
        if not answers:
            raise Failure(f"{old.name} did not answer after it woke up")
        self.follows(old)
        reply = answers[0]
        if reply.status == 200 and term_of(reply.version) <= term:
            raise Failure(f"{old.name} acknowledged a write in term {term} after it was replaced")
        if reply.status == 200:
            self.extra[key] = (reply.version, b"z")
        else:
            self.maybe.add(key)
        self.row("", f"{old.name} woken up", "follows, nothing acked in its old term",
                 (time.monotonic() - started) * 1000)

    def handoff(self):
        def fault(old):
            to = next(node for node in self.cluster.nodes if node is not old)
            self.hadb("handoff", "--node", old.address, "--db", DB, "--to", to.name)

        old, _, new, gap = self.change(fault)
        self.row("hand-off", f"planned, from {old.name} to {new.name}", "no write refused for good; gap", gap)
        self.numbers["handoff_gap_ms"] = gap

    def finish_writers(self):
        left = self.until - time.monotonic()
        if left > 0:
            time.sleep(left)
        self.stop.set()
        for writer in self.writers:
            writer.join(WRITE_SECONDS + ATTEMPT_SECONDS + 2)
            if writer.is_alive():
                raise Failure(f"writer {writer.index} does not end")
        if self.problems:
            raise Failure(f"{len(self.problems)} writes failed: {self.problems[0]}")
        acked = sum(len(writer.acked) for writer in self.writers)
        self.numbers["acked"] = acked
        self.numbers["retries"] = sum(writer.retries for writer in self.writers)
        return f"{acked} acked, {self.numbers['retries']} retries, 0 errors"

    def expected(self):
        """What must be in the database: key → (version or None, value)."""
        out = {key: (None, value) for key, value in self.packages.items()}
        out.update(self.extra)
        for writer in self.writers:
            out.update(writer.acked)
        return out

    def export(self, node):
        path = os.path.join(self.folder, f"export-{node.name}.jsonl")
        self.hadb("scan", "--node", node.address, "--db", DB, "--read", "linearizable", "--json",
                  output=path)
        return path

    def check_export(self, name, path, expected):
        """Every acknowledged write once, with its value and version; nothing else; keys in order."""
        seen, last = set(), None
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                item = json.loads(line)
                key, value = item["key"], item_bytes(item, "value")
                if last is not None and key.encode() <= last:
                    raise Failure(f"{name}: key {key!r} comes after {last!r}")
                last = key.encode()
                if key not in expected:
                    if key not in self.maybe:
                        raise Failure(f"{name} holds {key!r}, which nobody wrote")
                    continue
                version, wanted = expected[key]
                if value != wanted:
                    raise Failure(f"{name}: {key!r} has another value than was written")
                if version is not None and item["version"] != version:
                    raise Failure(f"{name}: {key!r} was acknowledged as version {version} and is "
                                  f"{item['version']}: applied twice")
                seen.add(key)
        missing = expected.keys() - seen
        if missing:
            raise Failure(f"{name} lacks {len(missing)} acknowledged writes, for example {min(missing)!r}")
        return len(seen)

    def check_nodes(self):
        views = self.cluster.agree()
        self.row("check", "chain hash of all three nodes", f"equal: {views[0]['chain_hash'][:16]}…")
        expected = self.expected()
        versions = [version for version, _ in expected.values() if version]
        if len(set(versions)) != len(versions):
            raise Failure("two records were acknowledged with one version")
        started = time.monotonic()
        for node in self.cluster.nodes:
            self.check_export(node.name, self.export(node), expected)
        self.row("", "every acked write exactly once on every node", f"{len(expected)} keys × 3 nodes",
                 (time.monotonic() - started) * 1000)
        self.numbers["keys"] = len(expected)

    def restore(self):
        output = os.path.join(self.folder, "restored")
        self.hadb("restore", "--store", self.store, "--db", DB, "--output", output, "--json")
        path = os.path.join(self.folder, "export-restored.jsonl")
        self.hadb("scan", "--dir", output, "--json", output=path)
        for node in self.cluster.nodes:
            other = os.path.join(self.folder, f"export-{node.name}.jsonl")
            if not filecmp.cmp(path, other, shallow=False):
                raise Failure(f"{path} differs from {other}")
        return "its export equals all three nodes'"

    def count_requests(self):
        """What the running nodes sent to S3, by their own counters."""
        sums = {}
        for node in self.cluster.nodes:
            for line in node.client.request("GET", "/v1/metrics").body.decode().splitlines():
                name, value = line.split()
                sums[name] = sums.get(name, 0) + int(value)
        if not sums["storage_sent_puts"] or not sums["storage_sent_gets"]:
            raise Failure("the nodes count no requests to S3")
        self.row("requests", f"sent to S3: {sums['storage_sent_puts']} PUT, {sums['storage_sent_gets']} GET",
                 f"{sums['storage_cost_nusd'] / 1e9:.4f} US dollars at list price")

    def stop_nodes(self):
        for node in self.cluster.nodes:
            code, _ = node.stop()
            if code != 0:
                raise Failure(f"{node.name} ended with {code} on SIGTERM: {node.last_words()}")
        return "exit code 0"

    def run(self):
        self.packages, self.stanzas = read_stanzas(DPKG)
        self.extra, self.maybe = {}, set()
        where = self.store.split(":")[0] if self.args.store else "local"
        lease = self.args.lease.split(":")[0] if self.args.lease else "file"
        self.timed("start", f"three nodes, {where} storage, {lease} lease", self.start)
        self.timed("load", DPKG, self.load)
        self.until = time.monotonic() + self.args.seconds
        self.timed("write", "numbered records, DURABLE", self.start_writers)
        self.kill()
        self.pause()
        self.handoff()
        self.timed("write", "writers at rest", self.finish_writers)
        self.check_nodes()
        self.timed("restore", "storage into a fresh folder", self.restore)
        if self.store.startswith("s3:"):
            self.count_requests()
        self.timed("end", "SIGTERM to all nodes", self.stop_nodes)


def item_bytes(item, name):
    """Bytes of one line of `hadb scan --json`."""
    return item[name].encode() if name in item else base64.b64decode(item[f"{name}_base64"])


def read_stanzas(path):
    """The package database as `hadb load --format stanza` stores it: package → paragraph (of the last
    architecture, if there are several), and the number of paragraphs."""
    packages, lines, count = {}, [], 0
    with open(path, "rb") as file:
        for line in [*file, b"\n"]:
            if line.strip():
                lines.append(line)
            elif lines:
                text = b"".join(lines)
                name = next(entry for entry in lines if entry.startswith(b"Package:"))
                packages[name.split(b":", 1)[1].strip().decode()] = text
                lines, count = [], count + 1
    return packages, count


def parse():
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=os.path.join(root, "build-release", "hadb"), metavar="PATH",
                        help="the program hadb (default: %(default)s)")
    parser.add_argument("--store", metavar="URL", help="storage (default: a folder); s3, http: a server of its own")
    parser.add_argument("--lease", metavar="URL", help="lease store (default: a folder); s3, nats, etcd, redis, "
                        "http: a server of its own")
    parser.add_argument("--seconds", type=float, default=10, metavar="N",
                        help="keep writing for at least this long, 1 to 40 (default %(default)g)")
    parser.add_argument("--keep", action="store_true", help="keep the folder with data and logs")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    args = parser.parse_args()
    if not 1 <= args.seconds <= 40:
        parser.error("--seconds must be 1 to 40")
    if not os.access(args.binary, os.X_OK):
        parser.error(f"there is no program {args.binary}; scripts/quickstart.sh builds it")
    if not os.path.exists(DPKG):
        parser.error(f"there is no {DPKG} on this machine")
    args.binary = os.path.abspath(args.binary)
    return args


def start_servers(args):
    """For --store s3 and the like; nodes find credentials in the environment."""
    started = servers.Servers(args.store, args.lease, args.binary)
    args.store, args.lease = started.store, started.lease
    wanted = started.environment()
    for name in os.environ.keys() - wanted.keys():
        del os.environ[name]
    os.environ.update(wanted)
    return started


def end(number, _frame):
    if number == signal.SIGALRM:
        raise Failure(f"not done within {TOTAL_SECONDS} s")
    for other in ENDINGS:
        signal.signal(other, signal.SIG_IGN)  # a second one must not cut the clean-up short
    print(f"ended by {signal.Signals(number).name}", file=sys.stderr)
    raise SystemExit(128 + number)


def main():
    args = parse()
    started = time.monotonic()
    for number in (signal.SIGALRM, *ENDINGS):
        signal.signal(number, end)
    signal.alarm(TOTAL_SECONDS)
    started_servers = start_servers(args)
    job = Job(args)
    failure = None
    if not args.json:
        print(f"{'phase':<9} {'what':<45} {'result':<39} {'ms':>6}")
    try:
        job.run()
    except (Failure, subprocess.TimeoutExpired, OSError, ValueError, KeyError) as error:
        failure = f"{error}"
        job.cluster.keep = True
    finally:
        signal.alarm(0)
        job.stop.set()
        job.cluster.close()
        started_servers.close()
    took = time.monotonic() - started
    if args.json:
        print(json.dumps({"ok": failure is None, "failure": failure, "seconds": round(took, 1),
                          **{name: round(value, 1) for name, value in job.numbers.items()},
                          "phases": job.rows}))
    elif failure is None:
        print(f"all of it holds; {took:.1f} s")
    if failure is not None:
        print(f"failed: {failure}\nlogs and data are kept in {job.folder}", file=sys.stderr)
    elif args.keep:
        print(f"kept {job.folder}", file=sys.stderr)
    else:
        shutil.rmtree(job.folder, ignore_errors=True)
    return 0 if failure is None else 1


if __name__ == "__main__":
    sys.exit(main())
