#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The benchmarks as a test: few rounds, and no promise broken. Figures are not judged here: other work may run beside.

With --ack async or --spoil the check has to find what was lost or written twice.

usage: test_bench.py HADB-BENCH BENCH [options]   exit code 77: not possible on this machine. With --store s3 or --lease KIND
over servers of its own (scripts/servers.py).
"""
import json
import os
import subprocess
import sys

SERVERS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts", "servers.py")
KEYS = {
    "failover": {"kills", "lost", "doubled", "gap_ms_p50", "gap_ms_p95", "gap_ms_max"},
    "handoff": {"lost", "errors", "gap_ms_p50", "gap_ms_p95"},
    "zombie": {"acked_after_seal", "rejoined", "lost"},
    "durable": {"writes_per_s", "writes_per_put", "puts_per_batch", "ratio", "http_ratio"},
}
ZERO = ("lost", "doubled", "errors", "acked_after_seal", "stale_reads", "foreign_keys")


def namespaces_work():
    """Can this machine make them, and enter them? In a chroot, say, `ip -n` cannot."""
    name = f"hadb-probe-{os.getpid()}"

    def ip(*args):
        return subprocess.run(["ip", *args], capture_output=True, check=False).returncode == 0

    try:
        made = ip("netns", "add", name)
        works = made and ip("-n", name, "link", "add", "bridge", "type", "bridge")
        if made:
            ip("netns", "del", name)
    except FileNotFoundError:
        return False
    return works


def main():
    program, bench, *options = sys.argv[1:]
    if "vanish" in options and not namespaces_work():
        print("this machine gives no network namespaces")
        return 77
    command = [program, bench, "--json", *options]
    if "--store" in options or "--lease" in options:
        command = [sys.executable, SERVERS, *command]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=200, check=False)
    print(done.stdout.decode())
    if done.returncode == 77:
        return 77
    figures = json.loads(done.stdout.decode().strip().splitlines()[-1])
    if "--spoil" in options or "async" in options:
        wanted = (1, 1) if "--spoil" in options else (max(figures["lost"], 1), 0)
        found = (figures["lost"], figures["doubled"])
        print(f"lost and doubled: {found}, expected {wanted}")
        return 0 if done.returncode == 1 and found == wanted else 1
    problems = [f"{name} is {figures[name]}" for name in ZERO if figures.get(name, 0) != 0]
    problems += [f"there is no {name}" for name in KEYS[bench] - figures.keys()]
    if bench == "zombie" and figures["rejoined"] != figures["count"]:
        problems.append("a sleeper did not rejoin")
    if bench != "durable" and figures["acked"] < 50:
        problems.append("hardly anything was written")
    if done.returncode != 0:
        problems.append(f"exit code {done.returncode}")
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
