#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a command beside an S3 server of its own: with_s3.py scripted|minio COMMAND...

The command finds HADB_TEST_S3_URL (a storage URL with a prefix that is empty), credentials in AWS_…, and, with the
scripted server, HADB_TEST_S3_CONTROL (where its control is). Exit 77 when there is no MinIO, unless
REQUIRE_REAL_STORES=1. The server listens on a free port of loopback and is ended by its process id.
"""
import http.client
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import s3_server  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def signed(port, method, path, key_id, secret):
    """One request with an empty body; its status."""
    date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    headers = {"host": f"127.0.0.1:{port}", "x-amz-date": date, "x-amz-content-sha256": EMPTY}
    signature = s3_server.sign(method, path, [], headers, EMPTY, secret, date, s3_server.REGION)
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={key_id}/{date[:8]}/{s3_server.REGION}/s3/aws4_request, "
        f"SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature={signature}")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


class Minio:
    """A MinIO of its own: free port, own folder, one bucket."""

    def __init__(self):
        found = subprocess.run([os.path.join(ROOT, "scripts", "minio.sh")], stdout=subprocess.PIPE,
                               text=True)
        if found.returncode != 0:
            needed = os.environ.get("REQUIRE_REAL_STORES") == "1"
            print("NO MINIO: this test did not run; scripts/minio.sh --build gets one"
                  + (", and REQUIRE_REAL_STORES=1 makes that a failure" if needed else ""),
                  file=sys.stderr)
            sys.exit(1 if needed else 77)
        self.key_id, self.secret = "testing", secrets.token_hex(16)
        self.folder = tempfile.mkdtemp(prefix="hadb-minio-")
        self.process = None
        try:
            self.start(found.stdout.strip())
        except BaseException:
            self.close()
            raise

    def start(self, program):
        self.port = free_port()
        env = dict(os.environ, MINIO_ROOT_USER=self.key_id, MINIO_ROOT_PASSWORD=self.secret,
                   MINIO_BROWSER="off", MINIO_UPDATE="off", HOME=self.folder)
        self.log = open(os.path.join(self.folder, "log"), "wb")
        self.process = subprocess.Popen(
            [program, "server", os.path.join(self.folder, "data"), "--address",
             f"127.0.0.1:{self.port}", "--quiet"], env=env, stdout=self.log, stderr=self.log)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if self.process.poll() is not None:
                break
            try:
                if signed(self.port, "PUT", "/" + s3_server.BUCKET, self.key_id, self.secret) == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        self.log.flush()
        with open(self.log.name, errors="replace") as log:
            raise SystemExit("minio does not start: " + log.read()[-2000:])

    @property
    def origin(self):
        return f"http://127.0.0.1:{self.port}"

    def close(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Scripted:
    def __init__(self):
        self.server = s3_server.start()
        self.key_id, self.secret = s3_server.KEY_ID, s3_server.SECRET

    @property
    def origin(self):
        return self.server.origin

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def environment(server, scripted):
    env = {n: v for n, v in os.environ.items() if not n.startswith("AWS_")}
    env.update(
        HADB_TEST_S3_URL=f"s3://{s3_server.BUCKET}/t?endpoint={server.origin}&path_style=1",
        AWS_ACCESS_KEY_ID=server.key_id, AWS_SECRET_ACCESS_KEY=server.secret,
        AWS_EC2_METADATA_DISABLED="true", AWS_CONFIG_FILE="/nonexistent",
        AWS_SHARED_CREDENTIALS_FILE="/nonexistent")
    if scripted:
        env["HADB_TEST_S3_CONTROL"] = server.origin + "/-/control"
    return env


def main():
    kind, command = sys.argv[1], sys.argv[2:]
    server = Scripted() if kind == "scripted" else Minio()
    try:
        sys.exit(subprocess.run(command, env=environment(server, kind == "scripted")).returncode)
    finally:
        server.close()


if __name__ == "__main__":
    main()
