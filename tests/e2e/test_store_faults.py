#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Three nodes over S3, or storage over HTTP, whose server dies, is full, takes the credentials away, or shows a certificate that has ended."""
import os
import shutil
import tempfile

from e2e import HADB, wait_for
from outage import OutageTest, main, s3_env, start, with_lease

import with_s3
import with_storage

ENOUGH = 1 << 30


class FullMinio(with_lease.Minio):
    """Its data lies on 64 MiB that only its own process sees, so nothing is left mounted, whatever happens."""

    def command(self):
        space = ["unshare", "--mount", *(["--map-root-user"] if os.getuid() else [])]
        return [*space, "sh", "-c", 'mount -t tmpfs -o size=64m none "$0" && exec "$@"', self.data,
                *super().command()]

    @property
    def ballast(self):
        return f"/proc/{self.process.pid}/root{self.data}/ballast"

    def fill(self):
        with open(self.ballast, "wb", buffering=0) as out:
            try:
                while True:
                    out.write(bytes(65536))
            except OSError:
                pass

    def drain(self):
        os.unlink(self.ballast)


class Minio(OutageTest):
    def cluster_on(self, kind, relay=True):
        server = start(self, kind)
        url = server.url(server.relay.port if relay else server.port).replace("UNIQUE", "t")
        return server, self.run_cluster(store=url, env=s3_env(server))

    def test_killed_and_started_again(self):
        server, cluster = self.cluster_on(with_lease.Minio, relay=False)
        self.storage_outage(cluster, server.kill, server.start, ("EUNAVAIL",), "connect")
        for node in cluster.nodes:
            with open(node.log, encoding="utf-8") as log:
                self.assertNotIn(server.secret, log.read())

    def test_full_and_cleared(self):
        server, cluster = self.cluster_on(FullMinio)
        self.storage_outage(cluster, server.fill, server.drain, ("ETIMEDOUT",), "XMinioStorageFull")

    def test_credentials_taken_away_and_given_back(self):
        server, cluster = self.cluster_on(with_lease.Minio)
        right = server.secret
        self.storage_outage(cluster, lambda: server.accept("another-" + right), lambda: server.accept(right),
                            ("EAUTH",), "SignatureDoesNotMatch")

    def test_certificate_ended_and_renewed(self):
        server, cluster = self.cluster_on(with_lease.MinioTls)
        self.storage_outage(cluster, lambda: server.certify(-1), lambda: server.certify(2), ("EAUTH",), "expired")

    def test_that_only_readers_met_is_over_without_another_request(self):
        server, cluster = self.cluster_on(with_lease.Minio, relay=False)
        server.kill()
        for node in cluster.nodes:
            reply = node.client.kv("GET", "app", "k", read="linearizable", deadline_ms=300)
            self.assertEqual(reply.status, 503, reply)
            wait_for(f"{node.name} tells it", 10,
                     lambda node=node: node.client.request("GET", "/readyz").status == 503)
        server.start()
        self.well(cluster, "storage")


class ScriptedS3(OutageTest):
    def cluster_on(self, **env):
        server = start(self, with_s3.Scripted)
        out = {n: v for n, v in {**s3_env(server), **env}.items() if v is not None}
        return server.server.control, self.run_cluster(store=server.url, env=out)

    def refuses(self, status, code, method):
        control, cluster = self.cluster_on()
        self.storage_outage(
            cluster, lambda: control({"fault": {"do": "status", "status": status, "code": code, "method": method,
                                                "times": ENOUGH}}),
            lambda: control({"reset": True}), ("ETIMEDOUT",), code)

    def test_full_and_cleared(self):
        self.refuses(507, "XMinioStorageFull", "PUT")

    def test_too_busy(self):
        self.refuses(503, "SlowDown", "PUT")

    def test_keys_replaced(self):
        """Old ones are refused from one moment to the next; nodes take the new ones once the profile file has them."""
        folder = tempfile.mkdtemp(prefix="hadb-profile-")
        self.addCleanup(shutil.rmtree, folder, True)
        profile = os.path.join(folder, "credentials")

        def write(key_id, secret):
            with open(profile + ".new", "w", encoding="ascii") as out:
                out.write(f"[default]\naws_access_key_id = {key_id}\naws_secret_access_key = {secret}\n")
            os.replace(profile + ".new", profile)

        write(with_s3.s3_server.KEY_ID, with_s3.s3_server.SECRET)
        control, cluster = self.cluster_on(AWS_SHARED_CREDENTIALS_FILE=profile, AWS_ACCESS_KEY_ID=None,
                                           AWS_SECRET_ACCESS_KEY=None)
        self.storage_outage(cluster, lambda: control({"set": {"keys": {"NEWKEY": ["new-secret", ""]}}}),
                            lambda: write("NEWKEY", "new-secret"), ("EAUTH",), "InvalidAccessKeyId")


class Http(OutageTest):
    """hadb storage-server over a folder."""

    def cluster_on(self):
        os.environ["HADB_TEST_PROGRAM"] = HADB
        server = start(self, with_storage.Http)
        return server, self.run_cluster(store=server.url(server.port).replace("UNIQUE", "t"))

    def test_killed_and_started_again(self):
        server, cluster = self.cluster_on()
        self.storage_outage(cluster, server.kill, server.start, ("EUNAVAIL",), "connect")

    def test_token_taken_away_and_given_back(self):
        server, cluster = self.cluster_on()
        right = server.secret
        self.storage_outage(cluster, lambda: server.accept("another-" + right), lambda: server.accept(right),
                            ("EAUTH",), "401")


if __name__ == "__main__":
    main()
