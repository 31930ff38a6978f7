#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a command beside a MinIO of its own: minio.py [--tls] COMMAND...

Free port of loopback, own folder, one bucket; ended by its process id. The command finds HADB_TEST_S3_URL (a storage
URL with a prefix that is empty) and credentials in AWS_…. The program is the one that scripts/minio.sh finds: exit 77 when
there is none, unless REQUIRE_REAL_STORES=1, which makes that a failure.
"""
import hashlib
import hmac
import http.client
import os
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time

REGION, BUCKET = "us-east-1", "test-bucket"
EMPTY = hashlib.sha256(b"").hexdigest()
GIVEN = set()  # ports
UNRESERVED = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"


def encode(text, keep=UNRESERVED):
    return "".join(c if c in keep else "".join(f"%{b:02X}" for b in c.encode()) for c in text)


def sign(method, path, query, headers, payload_hash, secret, date, region, service="s3"):
    """The signature of a request: headers is {lower-case name: value}, query is [(name, value)]."""
    canonical_query = "&".join(sorted(f"{encode(n)}={encode(v)}" for n, v in query))
    names = sorted(headers)
    lines = "".join(f"{n}:{' '.join(headers[n].split())}\n" for n in names)
    canonical = "\n".join([method, path, canonical_query, lines, ";".join(names), payload_hash])
    scope = f"{date[:8]}/{region}/{service}/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", date, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = ("AWS4" + secret).encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def free_port():
    """Another one at each call, below those that the system gives to connections: a server that is down for a while finds
    its port free again."""
    for _ in range(1000):
        port = 12000 + secrets.randbelow(20000)
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
            if port not in GIVEN:
                GIVEN.add(port)
                return port
    raise OSError("no free port between 12000 and 31999")


def openssl(*args):
    subprocess.run(["openssl", *args], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def make_certificates(folder, days=2):
    """A certificate authority ca.crt, and server.crt with server.key for 127.0.0.1 and localhost, signed by it."""
    at = lambda name: os.path.join(folder, name)
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *key, "-keyout", at("ca.key"), "-out", at("ca.crt"), "-days", str(days),
            "-subj", "/CN=hadb test authority")
    openssl("req", *key, "-keyout", at("server.key"), "-out", at("server.csr"), "-subj", "/CN=127.0.0.1")
    with open(at("names"), "w", encoding="utf-8") as file:
        file.write("subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n")
    openssl("x509", "-req", "-in", at("server.csr"), "-CA", at("ca.crt"), "-CAkey", at("ca.key"),
            "-CAcreateserial", "-out", at("server.crt"), "-days", str(days), "-extfile", at("names"))


def missing(what, how):
    """A server that a test needs is not here: skipped, loudly, or failed."""
    needed = os.environ.get("REQUIRE_REAL_STORES") == "1"
    print(f"NO {what}: this did not run; {how}"
          + (", and REQUIRE_REAL_STORES=1 makes that a failure" if needed else ""), file=sys.stderr)
    sys.exit(1 if needed else 77)


def program():
    """The path of the server, as scripts/minio.sh finds it."""
    found = subprocess.run([os.path.join(os.path.dirname(os.path.abspath(__file__)), "minio.sh")],
                           stdout=subprocess.PIPE, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else \
        missing("MINIO", "scripts/minio.sh --build gets one")


class Minio:
    def __init__(self, tls=False):
        path = program()
        self.key_id, self.secret = "testing", secrets.token_hex(16)
        self.folder = tempfile.mkdtemp(prefix="hadb-minio-")
        self.process, self.ca = None, None
        try:
            if tls:
                self.make_tls()
            self.start(path)
        except BaseException:
            self.close()
            raise

    def make_tls(self):
        make_certificates(self.folder)
        certs = os.path.join(self.folder, "certs")
        os.mkdir(certs)
        shutil.copy(os.path.join(self.folder, "server.crt"), os.path.join(certs, "public.crt"))
        shutil.copy(os.path.join(self.folder, "server.key"), os.path.join(certs, "private.key"))
        self.ca = os.path.join(self.folder, "ca.crt")

    def make_bucket(self):
        """The status of the request."""
        date, path = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()), "/" + BUCKET
        headers = {"host": f"127.0.0.1:{self.port}", "x-amz-date": date, "x-amz-content-sha256": EMPTY}
        signature = sign("PUT", path, [], headers, EMPTY, self.secret, date, REGION)
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.key_id}/{date[:8]}/{REGION}/s3/aws4_request, "
            f"SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature={signature}")
        if self.ca:
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=10,
                                                     context=ssl.create_default_context(cafile=self.ca))
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("PUT", path, headers=headers)
            return connection.getresponse().status
        finally:
            connection.close()

    def start(self, program):
        self.port = free_port()
        env = dict(os.environ, MINIO_ROOT_USER=self.key_id, MINIO_ROOT_PASSWORD=self.secret,
                   MINIO_BROWSER="off", MINIO_UPDATE="off", HOME=self.folder)
        args = [program, "server", os.path.join(self.folder, "data"), "--address",
                f"127.0.0.1:{self.port}", "--quiet"]
        if self.ca:
            args += ["--certs-dir", os.path.join(self.folder, "certs")]
        path = os.path.join(self.folder, "log")
        with open(path, "wb") as log:
            self.process = subprocess.Popen(args, env=env, stdout=log, stderr=log)
        until = time.monotonic() + 60
        while time.monotonic() < until and self.process.poll() is None:
            try:
                if self.make_bucket() == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        with open(path, errors="replace", encoding="utf-8") as log:
            raise SystemExit("minio does not start: " + log.read()[-2000:])

    @property
    def origin(self):
        return f"{'https' if self.ca else 'http'}://127.0.0.1:{self.port}"

    @property
    def url(self):
        return (f"s3://{BUCKET}/t?endpoint={self.origin}&path_style=1"
                + (f"&ca={self.ca}" if self.ca else ""))

    @property
    def credentials(self):
        return {"AWS_ACCESS_KEY_ID": self.key_id, "AWS_SECRET_ACCESS_KEY": self.secret}

    def close(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def environment(url, credentials):
    """This process's environment without what else could give credentials."""
    env = {n: v for n, v in os.environ.items() if not n.startswith("AWS_")}
    env.update(credentials, HADB_TEST_S3_URL=url, AWS_EC2_METADATA_DISABLED="true",
               AWS_CONFIG_FILE="/nonexistent", AWS_SHARED_CREDENTIALS_FILE="/nonexistent")
    return env


def main():
    command = sys.argv[1:]
    tls = command[:1] == ["--tls"]
    server = Minio(tls)
    try:
        sys.exit(subprocess.run(command[tls:], env=environment(server.url, server.credentials),
                                check=False).returncode)
    finally:
        server.close()


if __name__ == "__main__":
    main()
