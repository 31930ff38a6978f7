#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a command beside an S3 server of its own: with_s3.py scripted|minio|minio-tls COMMAND...

The command finds HADB_TEST_S3_URL (a storage URL with a prefix that is empty), credentials in AWS_…, and, with the
scripted server, HADB_TEST_S3_CONTROL (where its control is). MinIO as in scripts/minio.py: exit 77 when there is none,
unless REQUIRE_REAL_STORES=1. The server listens on a free port of loopback.
"""
import os
import subprocess
import sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(HERE)), "scripts"))
import minio  # noqa: E402
import s3_server  # noqa: E402


class Scripted:
    def __init__(self):
        self.server = s3_server.start()
        self.credentials = {"AWS_ACCESS_KEY_ID": s3_server.KEY_ID,
                            "AWS_SECRET_ACCESS_KEY": s3_server.SECRET,
                            "HADB_TEST_S3_CONTROL": self.server.origin + "/-/control"}
        self.url = f"s3://{s3_server.BUCKET}/t?endpoint={self.server.origin}&path_style=1"

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def main():
    kind, command = sys.argv[1], sys.argv[2:]
    server = Scripted() if kind == "scripted" else minio.Minio(tls=kind == "minio-tls")
    try:
        env = minio.environment(server.url, server.credentials)
        sys.exit(subprocess.run(command, env=env, check=False).returncode)
    finally:
        server.close()


if __name__ == "__main__":
    main()
