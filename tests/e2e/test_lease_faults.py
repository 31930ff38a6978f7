#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Three nodes whose lease server dies, forgets everything, or shows a certificate that has ended: KIND (HADB_TEST_LEASE_KIND).

Leading rests on storage, so nothing but the discovery of hung and vanished nodes may suffer.
"""
import os
import signal
import unittest

from e2e import HADB, wait_for
from load import Load, check
from outage import OutageTest, main, s3_env, start, with_lease

KIND = os.environ.get("HADB_TEST_LEASE_KIND", "redis")


class LeaseServer(OutageTest):
    def setUp(self):
        os.environ["HADB_TEST_PROGRAM"] = HADB
        self.server = start(self, with_lease.KINDS[KIND])
        self.cluster = self.run_cluster(
            lease=self.server.url(self.server.relay.port).replace("UNIQUE", "cluster"),
            env=s3_env(self.server) if KIND.startswith("minio") else None)

    @unittest.skipIf(KIND.endswith("-tls"), "the same without TLS")
    def test_killed_and_started_again(self):
        self.lease_outage(self.cluster, self.server.kill, self.server.start, ("EUNAVAIL", "ETIMEDOUT"))

    @unittest.skipIf(KIND.endswith("-tls"), "the same without TLS")
    def test_forgets_everything(self):
        # nats-server 2.9 dies of a read that meets a stream which is being made; so it is looked after.
        self.lease_outage(self.cluster, self.server.kill, self.server.forget, ("EUNAVAIL", "ETIMEDOUT"),
                          tend=self.server.tend)
        # It is a lease store as before: a hung leader is replaced.
        leader = self.cluster.leader()
        leader.signal(signal.SIGSTOP)
        self.cluster.new_leader(leader)
        leader.signal(signal.SIGCONT)
        self.cluster.leader()

    @unittest.skipIf(KIND.endswith("-tls"), "the same without TLS")
    def test_leader_dies_meanwhile(self):
        """Refused connections tell enough, and so does silence; the node that comes back needs no lease server either."""
        with Load(self.cluster, patience=30) as load:
            self.server.kill()
            leader = self.cluster.leader()
            self.told(leader, "lease", ("EUNAVAIL", "ETIMEDOUT"), "", ready=True)
            leader.kill()
            self.cluster.new_leader(leader)
            load.more(30)
            leader.start()
            load.more(30)
            wait_for("the node that came back is ready", 20,
                     lambda: leader.client.request("GET", "/readyz").status == 200)
            sleeper = self.cluster.leader()
            sleeper.signal(signal.SIGSTOP)
            self.cluster.new_leader(sleeper)
            load.more(10)
            sleeper.signal(signal.SIGCONT)
            self.server.start()
            self.well(self.cluster, "lease")
            load.more(10)
        check(self, load)

    @unittest.skipIf(KIND.endswith("-tls"), "the same without TLS")
    def test_credentials_taken_away_and_given_back(self):
        right = self.server.secret
        self.lease_outage(self.cluster, lambda: self.server.accept("another-" + right),
                          lambda: self.server.accept(right), ("EAUTH",))

    @unittest.skipUnless(KIND.endswith("-tls"), "no TLS")
    def test_certificate_ended_and_renewed(self):
        self.lease_outage(self.cluster, lambda: self.server.certify(-1), lambda: self.server.certify(2),
                          ("EAUTH",))


if __name__ == "__main__":
    main()
