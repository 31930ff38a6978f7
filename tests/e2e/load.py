# SPDX-License-Identifier: Apache-2.0
"""Writers that remember every acknowledgement, and the check that each of them is there, once."""
import threading
import time

from e2e import Client, request_id, wait_for


class Load:
    """Writers in the background. Each write makes a key of its own, once, and is repeated with its request id until its
    outcome is known, for as long as @patience. Use it in a with statement."""

    def __init__(self, cluster, writers=4, patience=15):
        self.cluster, self.stop, self.patience = cluster, threading.Event(), patience
        self.acked, self.errors, self.longest = {}, [], 0.0
        self.threads = [threading.Thread(target=self.run, args=(i,), daemon=True) for i in range(writers)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        wait_for("the first writes", 20, lambda: len(self.acked) >= 20)
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join(self.patience + 15)

    def run(self, index):
        clients = [Client(node.address, timeout=6) for node in self.cluster.nodes]
        try:
            self.write_all(index, clients)
        finally:
            for client in clients:
                client.close()

    def write_all(self, index, clients):
        number, turn = 0, index
        while not self.stop.is_set():
            key, identity = f"load/{index}/{number:05d}", request_id()
            started, until = time.monotonic(), time.monotonic() + self.patience
            while True:
                reply = clients[turn % len(clients)].kv("PUT", "app", key, key.encode(), "if_absent",
                                                        request_id=identity, deadline_ms=5000)
                if reply.status == 200:
                    self.acked[key] = reply.version
                    break
                if reply.status not in (0, 503, 504) or time.monotonic() > until:
                    self.errors.append((key, reply))
                    break
                turn += 1
                time.sleep(0.01)
            self.longest = max(self.longest, time.monotonic() - started)
            number += 1
            time.sleep(0.001)

    def more(self, count=30, seconds=20):
        goal = len(self.acked) + count
        wait_for(f"{count} more acknowledged writes", seconds, lambda: len(self.acked) >= goal, 0.005)


def content(test, node):
    """key → version of the whole database, page after page."""
    out, start = {}, "load/"
    while start:
        reply = node.client.request("GET", f"/v1/db/app/scan?prefix=load/&limit=5000&start={start}",
                                    headers={"Hadb-Read": "linearizable"})
        test.assertEqual(reply.status, 200, reply)
        page = reply.json()
        out.update((item["key"], item["version"]) for item in page["items"])
        start = page["next"] and page["items"][-1]["key"] + "%00"
    return out


def check(test, load):
    """Every acknowledged write is there once, on every node, and all agree."""
    test.assertEqual(load.errors, [])
    load.cluster.agree()
    for node in load.cluster.nodes:
        if node.alive:
            there = content(test, node)
            test.assertEqual({key: there.get(key) for key in load.acked}, load.acked)
