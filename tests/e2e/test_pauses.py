#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Servers that hang for half a minute (SIGSTOP) and go on: the store, and each lease server, all at the same time.

Which lease servers: HADB_TEST_LEASE_KINDS. Each has three nodes of its own.
"""
import concurrent.futures
import os

from e2e import HADB
from outage import OutageTest, main, s3_env, start, with_lease

PAUSE_S = 30


class Pauses(OutageTest):
    def store(self):
        server = start(self, with_lease.Minio)
        cluster = self.run_cluster(store=server.url(server.port).replace("UNIQUE", "t"), env=s3_env(server))
        self.storage_outage(cluster, server.pause, server.resume, ("ETIMEDOUT", "EUNAVAIL", "EIO"), "", PAUSE_S, name="store")

    def lease(self, kind):
        server = start(self, with_lease.KINDS[kind])
        cluster = self.run_cluster(lease=server.url(server.port).replace("UNIQUE", "cluster"))
        self.lease_outage(cluster, server.pause, server.resume, ("ETIMEDOUT", "EUNAVAIL"), PAUSE_S, 1, name=kind)

    def test_half_a_minute_costs_half_a_minute(self):
        os.environ["HADB_TEST_PROGRAM"] = HADB
        kinds = os.environ.get("HADB_TEST_LEASE_KINDS", "redis etcd nats http").split()
        with concurrent.futures.ThreadPoolExecutor() as pool:
            running = [pool.submit(self.store)] + [pool.submit(self.lease, kind) for kind in kinds]
            for future in running:
                future.result()


if __name__ == "__main__":
    main()
