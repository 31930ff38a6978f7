#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a command beside a blob service of its own: with_storage.py KIND COMMAND...

http and http-tls are our own storage server (HADB_TEST_PROGRAM) over a folder, scripted is the one of blob_server.py. The
command finds HADB_TEST_STORAGE_URL (UNIQUE in it stands for a name of the test's choice) and where they fit
HADB_TEST_STORAGE_RELAY_URL, HADB_TEST_BAD_AUTH_STORAGE_URL, _BAD_CA_STORAGE_URL, _BAD_PORT_STORAGE_URL, and the control of
with_lease.py, whose servers these are.
"""
import sys

sys.dont_write_bytecode = True
import with_lease  # noqa: E402  (this folder is where Python looks first)
import blob_server  # noqa: E402


class Http(with_lease.Http):
    """hadb storage-server over a folder."""
    kind = "storage"
    verb, option = "storage-server", "--store"
    path = "/v1/storage?prefix=UNIQUE&connect_timeout_ms=60000"  # 64 TLS handshakes at once on a busy machine

    def url(self, port, secret=None, ca="ca.pem"):
        return super().url(port, secret, ca).replace("?ca=", "&ca=")

    def variables(self):
        return {name.replace("LEASE_", "STORAGE_"): url for name, url in super().variables().items()}


class HttpTls(Http):
    tls = True


class Scripted:
    def __init__(self):
        self.server = blob_server.start()

    def variables(self):
        return {f"HADB_TEST_{name}STORAGE_URL": f"{self.server.origin}/{base}?prefix=UNIQUE"
                for name, base in (("", "honest"), ("IGNORES_", "ignores"), ("RACES_", "races"))}

    def close(self):
        self.server.shutdown()
        self.server.server_close()


if __name__ == "__main__":
    with_lease.main({"http": Http, "http-tls": HttpTls, "scripted": Scripted})
