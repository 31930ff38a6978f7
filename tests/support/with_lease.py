#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a command beside a lease server of its own: with_lease.py KIND COMMAND...

The command finds HADB_TEST_LEASE_URL (UNIQUE in it stands for a name of the test's choice), and where they fit
HADB_TEST_LEASE_RELAY_URL (the same server through a relay that can be told to fail), _BAD_AUTH_LEASE_URL,
_BAD_CA_LEASE_URL, _BAD_PORT_LEASE_URL, and HADB_TEST_LEASE_CONTROL: a port of loopback that takes one wish per
connection (tests/support/lease_server.h). A missing server is exit 77, unless REQUIRE_REAL_STORES=1. Servers listen
on free ports of loopback, own their folder, and are ended by their process id.
"""
import json
import os
import secrets
import shutil
import signal
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(ROOT, "scripts")]
import minio  # noqa: E402
import with_s3  # noqa: E402


def program(name, package):
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/bin")
    return found or minio.missing(name, f"apt-get install {package}")


class Relay:
    """TCP from a free port to the server; "pass", "mute", "freeze", "cut" as in lease_server.h."""

    def __init__(self, target):
        self.target, self.mode = target, "pass"
        self.changed = threading.Condition()
        self.pairs = set()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def set(self, mode):
        with self.changed:
            was, self.mode = self.mode, mode
            # What was swallowed is gone: a connection cannot go on in the middle.
            pairs = list(self.pairs) if mode == "cut" or was == "mute" else []
            self.changed.notify_all()
        for pair in pairs:
            self.end(pair)

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    @staticmethod
    def reset(sock):
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.shutdown(socket.SHUT_RD)  # wakes the thread that reads
        except OSError:
            pass

    def end(self, pair):
        with self.changed:
            self.pairs.discard(pair)
            self.changed.notify_all()
        for sock in pair:
            self.reset(sock)

    def serve(self, client):
        with self.changed:
            while self.mode == "freeze":
                self.changed.wait()
            refuse = self.mode == "cut"
        try:
            if refuse:
                raise OSError("cut")
            server = socket.create_connection(("127.0.0.1", self.target), timeout=10)
        except OSError:
            self.reset(client)
            client.close()
            return
        server.settimeout(None)
        for sock in (client, server):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = (client, server)
        with self.changed:
            self.pairs.add(pair)
        other = threading.Thread(target=self.pump, args=(server, client, pair, True), daemon=True)
        other.start()
        self.pump(client, server, pair, False)
        other.join()
        client.close()
        server.close()

    def pump(self, source, sink, pair, replies):
        try:
            while True:
                data = source.recv(65536)
                with self.changed:
                    while self.mode == "freeze" and pair in self.pairs:
                        self.changed.wait()
                    swallow = replies and self.mode == "mute"
                    gone = pair not in self.pairs
                if gone or not data:
                    break
                if not swallow:
                    sink.sendall(data)
        except OSError:
            pass
        self.end(pair)


class Certificates:
    """A test CA, a certificate of 127.0.0.1 and localhost, and a CA that has signed nothing. In self.folder."""

    def __init__(self, folder):
        self.folder = os.path.join(folder, "tls")
        os.mkdir(self.folder)
        for name in ("ca", "stranger"):
            minio.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                          "-nodes", "-days", "2", "-subj", f"/CN=hadb test {name}",
                          "-addext", "basicConstraints=critical,CA:TRUE",
                          "-keyout", self.path(name + ".key"), "-out", self.path(name + ".pem"))
        minio.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                      "-subj", "/CN=localhost", "-keyout", self.path("server.key"),
                      "-out", self.path("server.csr"))
        with open(self.path("server.ext"), "w", encoding="utf-8") as out:
            out.write("subjectAltName=IP:127.0.0.1,DNS:localhost\n"
                      "extendedKeyUsage=serverAuth,clientAuth\n")
        self.sign("client.pem", 2)  # the same key
        self.sign("server.pem", 2)

    def sign(self, name, days):
        """A certificate that ends in so many days; -1: it ended yesterday. In one step, for servers that look at any moment."""
        minio.openssl("x509", "-req", "-in", self.path("server.csr"), "-CA", self.path("ca.pem"),
                      "-CAkey", self.path("ca.key"), "-CAcreateserial", "-days", str(days),
                      "-extfile", self.path("server.ext"), "-out", self.path("new.pem"))
        os.replace(self.path("new.pem"), self.path(name))

    def path(self, name):
        return os.path.join(self.folder, name)

    def context(self):
        """For clients in Python."""
        out = ssl.create_default_context(cafile=self.path("ca.pem"))
        out.load_cert_chain(self.path("client.pem"), self.path("server.key"))
        return out

    def trusting(self):
        """For clients in Python that take any certificate."""
        out = self.context()
        out.check_hostname, out.verify_mode = False, ssl.CERT_NONE
        return out


class Server:
    """A server process: free port, own folder. Subclasses say how it is started and when it is ready."""
    kind = ""
    ready_s_max = 60

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix=f"hadb-{self.kind}-")
        self.data = os.path.join(self.folder, "data")
        self.port = minio.free_port()
        self.process, self.paused = None, False
        self.secret = secrets.token_hex(16)
        try:
            self.prepare()
            self.start()
        except BaseException:
            self.close()
            raise
        self.relay = Relay(self.port)

    def prepare(self):
        """What happens once, before the first start."""

    def configure(self):
        """Writes down what the program reads of self.secret."""

    def made(self):
        """What happens after each start on an empty folder."""

    def env(self):
        return dict(os.environ, HOME=self.folder)

    def start(self):
        fresh = not os.path.isdir(self.data)
        os.makedirs(self.data, exist_ok=True)
        with open(os.path.join(self.folder, "log"), "ab") as log:
            self.process = subprocess.Popen(self.command(), env=self.env(), stdout=log, stderr=log)
        until = time.monotonic() + self.ready_s_max
        while time.monotonic() < until and self.process.poll() is None:
            try:
                if self.ready():
                    if fresh:
                        self.made()
                    return
            except OSError:
                pass
            time.sleep(0.02)
        with open(os.path.join(self.folder, "log"), errors="replace") as log:
            raise RuntimeError(f"{self.kind} does not start: " + log.read()[-2000:])

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.paused = False

    def tend(self):
        """Starts it again when it ended by itself, as whoever runs servers does."""
        if self.process.poll() is not None:
            self.start()

    def pause(self):
        """Returns when all threads have stopped: until then one of them may still answer."""
        self.process.send_signal(signal.SIGSTOP)
        self.paused = True
        os.waitpid(self.process.pid, os.WUNTRACED)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)
        self.paused = False

    def forget(self):
        self.kill()
        shutil.rmtree(self.data)
        self.start()

    def greeted(self, sock):
        """What a server says before TLS begins."""

    def shown(self):
        """The certificate that somebody who connects now is shown, in DER."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as s:
            self.greeted(s)
            with self.certificates.trusting().wrap_socket(s) as tls:
                return tls.getpeercert(binary_form=True)

    def take_certificate(self):
        """Tells the server that server.pem is another one; most see it by themselves or take SIGHUP."""
        self.process.send_signal(signal.SIGHUP)

    def certify(self, days):
        """From now on the server shows a certificate that ends in so many days (-1: that has ended); who came through the
        relay has to connect anew."""
        self.certificates.sign("server.pem", days)
        with open(self.certificates.path("server.pem"), encoding="ascii") as pem:
            wanted = ssl.PEM_cert_to_DER_cert(pem.read())
        self.take_certificate()
        until = time.monotonic() + 20
        while self.shown() != wanted:
            if time.monotonic() > until:
                raise RuntimeError(f"{self.kind} does not take the new certificate")
            time.sleep(0.02)
        self.relay.set("cut")
        self.relay.set("pass")

    def accept(self, secret):
        """From now on this password alone opens the door, also for who was inside. Here: by starting again."""
        self.kill()
        self.secret = secret
        self.configure()
        self.start()

    def close(self):
        if self.process and self.process.poll() is None:
            if self.paused:
                self.resume()
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def tell(self, wish):
        if wish in ("pass", "mute", "freeze", "cut"):
            self.relay.set(wish)
        elif wish in ("kill", "start", "pause", "resume", "forget"):
            getattr(self, wish)()
        else:
            raise RuntimeError(f"unknown wish {wish}")

    def variables(self):
        out = {"LEASE_URL": self.url(self.port), "LEASE_RELAY_URL": self.url(self.relay.port),
               "BAD_PORT_LEASE_URL": self.url(minio.free_port())}
        return {f"HADB_TEST_{name}": value for name, value in out.items()}


class Minio(Server):
    kind, tls = "minio", False
    key_id, ca = "testing", None  # as minio.Minio names them

    def prepare(self):
        self.program = minio.program()
        if self.tls:
            self.certificates = Certificates(self.folder)
            self.ca = self.certificates.path("ca.pem")
            shutil.copy(self.certificates.path("server.pem"), self.certificates.path("public.crt"))
            shutil.copy(self.certificates.path("server.key"), self.certificates.path("private.key"))

    def take_certificate(self):
        os.replace(shutil.copy(self.certificates.path("server.pem"), self.certificates.path("copy")),
                   self.certificates.path("public.crt"))
        super().take_certificate()

    @property
    def credentials(self):
        return {"AWS_ACCESS_KEY_ID": self.key_id, "AWS_SECRET_ACCESS_KEY": self.secret}

    def env(self):
        return dict(os.environ, MINIO_ROOT_USER=self.key_id, MINIO_ROOT_PASSWORD=self.secret,
                    MINIO_BROWSER="off", MINIO_UPDATE="off", HOME=self.folder)

    def command(self):
        tls = ["--certs-dir", self.certificates.folder] if self.tls else []
        return [self.program, "server", self.data, "--address", f"127.0.0.1:{self.port}", "--quiet",
                *tls]

    def ready(self):
        """The bucket is made, or was there."""
        return minio.Minio.make_bucket(self) in (200, 409)

    def url(self, port, ca="ca.pem"):
        out = f"s3://{minio.BUCKET}/UNIQUE?endpoint=http{'s' if self.tls else ''}://" \
              f"127.0.0.1:{port}&path_style=1"
        return out + f"&ca={self.certificates.path(ca)}" if self.tls else out

    def variables(self):
        out = {**super().variables(), **aws(self.url(self.port), self.credentials)}
        if self.tls:
            out["HADB_TEST_BAD_CA_LEASE_URL"] = self.url(self.port, "stranger.pem")
        return out


class MinioTls(Minio):
    tls = True


class Redis(Server):
    kind, tls = "redis", False

    def prepare(self):
        self.program = program("redis-server", "redis-server")
        if self.tls:
            self.certificates = Certificates(self.folder)

    def command(self):
        tls = []
        if self.tls:
            path = self.certificates.path
            tls = ["--tls-port", str(self.port), "--tls-cert-file", path("server.pem"),
                   "--tls-key-file", path("server.key"), "--tls-ca-cert-file", path("ca.pem"),
                   "--tls-auth-clients", "yes"]
        return [self.program, "--bind", "127.0.0.1", "--port", "0" if self.tls else str(self.port),
                *tls, "--dir", self.data, "--requirepass", self.secret, "--save", "",
                "--appendonly", "yes", "--appendfsync", "always"]

    def ask(self, command, context=None):
        """The answer to one command, after that to AUTH."""
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        context = (context or self.certificates.context()) if self.tls else None
        with context.wrap_socket(plain, server_hostname="127.0.0.1") if context else plain as s:
            s.sendall(f"AUTH {self.secret}\r\n{command}\r\n".encode())
            got = b""
            while got.count(b"\n") < 2:
                data = s.recv(4096)
                if not data:
                    break
                got += data
            return got

    def ready(self):
        return self.ask("EXISTS x") == b"+OK\r\n:0\r\n"

    def take_certificate(self):
        """The same name again would be no change to Redis."""
        path = self.certificates.path(secrets.token_hex(4) + ".pem")
        shutil.copy(self.certificates.path("server.pem"), path)
        answer = self.ask(f"CONFIG SET tls-cert-file {path}", self.certificates.trusting())
        if answer != b"+OK\r\n+OK\r\n":
            raise RuntimeError(f"redis refuses its certificate: {answer}")

    def url(self, port, secret=None, ca="ca.pem"):
        out = f"redis{'s' if self.tls else ''}://:{secret or self.secret}@127.0.0.1:{port}" \
              "/3?prefix=UNIQUE/"
        if self.tls:
            path = self.certificates.path
            out += f"&ca={path(ca)}&cert={path('client.pem')}&key={path('server.key')}"
        return out

    def variables(self):
        out = {"HADB_TEST_BAD_AUTH_LEASE_URL": self.url(self.port, "wrong-secret")}
        if self.tls:
            out["HADB_TEST_BAD_CA_LEASE_URL"] = self.url(self.port, ca="stranger.pem")
        return {**super().variables(), **out}


class RedisTls(Redis):
    tls = True


class Etcd(Server):
    kind, tls = "etcd", False

    def prepare(self):
        self.program = program("etcd", "etcd-server")
        self.peer_port = minio.free_port()
        if self.tls:
            self.certificates = Certificates(self.folder)

    def origin(self, port):
        return f"http{'s' if self.tls else ''}://127.0.0.1:{port}"

    def command(self):
        tls = []
        if self.tls:
            path = self.certificates.path
            tls = ["--cert-file", path("server.pem"), "--key-file", path("server.key"),
                   "--trusted-ca-file", path("ca.pem"), "--client-cert-auth"]
        peer = f"http://127.0.0.1:{self.peer_port}"
        return [self.program, "--data-dir", os.path.join(self.data, "d"), "--name", "a", *tls,
                "--listen-client-urls", self.origin(self.port),
                "--advertise-client-urls", self.origin(self.port),
                "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                "--initial-cluster", f"a={peer}", "--logger", "zap", "--bcrypt-cost", "4"]

    def ask(self, path, body, token=None):
        """The status of one request, and the answer."""
        request = urllib.request.Request(self.origin(self.port) + path, json.dumps(body).encode(),
                                         {"Authorization": token} if token else {})
        context = self.certificates.context() if self.tls else None
        try:
            with urllib.request.urlopen(request, timeout=5, context=context) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as refusal:
            return refusal.code, {}

    def ready(self):
        return self.ask("/v3/kv/range", {"key": "eA=="})[0] in (200, 400)

    def take_certificate(self):
        """It reads the file for each connection."""

    def accept(self, secret):
        """Its users are in its data."""
        _, answer = self.ask("/v3/auth/authenticate", {"name": "root", "password": self.secret})
        status, _ = self.ask("/v3/auth/user/changepw", {"name": "root", "password": secret}, answer.get("token"))
        if status != 200:
            raise RuntimeError(f"etcd refuses the new password: {status}")
        self.secret = secret

    def made(self):
        """The certificates of the TLS variant say who comes, so that one has no users."""
        if self.tls:
            return
        for path, body in (("user/add", {"name": "root", "password": self.secret}),
                           ("role/add", {"name": "root"}),
                           ("user/grant", {"user": "root", "role": "root"}), ("enable", {})):
            if self.ask("/v3/auth/" + path, body)[0] != 200:
                raise RuntimeError(f"etcd refuses {path}")

    def url(self, port, secret=None, ca="ca.pem"):
        if not self.tls:
            return f"etcd://root:{secret or self.secret}@127.0.0.1:{port}/UNIQUE"
        path = self.certificates.path
        return f"etcds://127.0.0.1:{port}/UNIQUE?ca={path(ca)}&cert={path('client.pem')}" \
               f"&key={path('server.key')}"

    def variables(self):
        out = super().variables()
        if self.tls:
            out["HADB_TEST_BAD_CA_LEASE_URL"] = self.url(self.port, ca="stranger.pem")
        else:
            out["HADB_TEST_BAD_AUTH_LEASE_URL"] = self.url(self.port, "wrong-secret")
        return out


class EtcdTls(Etcd):
    tls = True


SLOW_S = 60  # for a handshake under a sanitizer on a busy machine; nats-server's own 2 s are over before it ends


class Nats(Server):
    kind, tls, jetstream = "nats", False, True

    def prepare(self):
        self.program = program("nats-server", "nats-server")
        if self.tls:
            self.certificates = Certificates(self.folder)
        self.configure()

    def configure(self):
        self.config = os.path.join(self.folder, "config")
        users = f'{{user: me, password: "{self.secret}"}}, {{user: weak, password: ' \
                f'"{self.secret}", permissions: {{publish: "nothing"}}}}'
        lines = [f"listen: 127.0.0.1:{self.port}", f"authorization {{ timeout: {SLOW_S}, users: [{users}] }}"]
        if self.jetstream:
            lines.append(f'jetstream {{ store_dir: "{self.data}" }}')
        if self.tls:
            path = self.certificates.path
            lines.append(f'tls {{ cert_file: "{path("server.pem")}", key_file: '
                         f'"{path("server.key")}", ca_file: "{path("ca.pem")}", verify: true, timeout: {SLOW_S} }}')
        with open(self.config, "w", encoding="utf-8") as out:
            out.write("\n".join(lines) + "\n")

    def command(self):
        return [self.program, "-c", self.config]

    def ready(self):
        """It greets only when its streams are back."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as s:
            return s.recv(4096).startswith(b"INFO ")

    def greeted(self, sock):
        sock.recv(4096)

    def url(self, port, secret=None, ca="ca.pem"):
        out = f"nats://me:{secret or self.secret}@127.0.0.1:{port}/UNIQUE"
        if self.tls:
            path = self.certificates.path
            out += f"?tls=1&ca={path(ca)}&cert={path('client.pem')}&key={path('server.key')}"
        return out

    def variables(self):
        out = {"HADB_TEST_BAD_AUTH_LEASE_URL": self.url(self.port, "wrong-secret")}
        if self.tls:
            out["HADB_TEST_BAD_CA_LEASE_URL"] = self.url(self.port, ca="stranger.pem")
        out["HADB_TEST_WEAK_LEASE_URL"] = self.url(self.port).replace("me:", "weak:", 1)
        return {**super().variables(), **out}


class NatsTls(Nats):
    tls = True


class NatsPlain(Nats):
    """Without JetStream."""
    jetstream = False


class Http(Server):
    """Our own lease server, over a folder."""
    kind, tls = "http", False
    verb, option, path = "lease-server", "--lease", "/v1/lease/UNIQUE"

    def prepare(self):
        self.program = os.environ["HADB_TEST_PROGRAM"]
        self.token_file = os.path.join(self.folder, "token")
        if self.tls:
            self.certificates = Certificates(self.folder)
        self.configure()

    def configure(self):
        with open(self.token_file, "w", encoding="ascii") as out:
            out.write(self.secret + "\n")
        os.chmod(self.token_file, 0o600)

    def command(self):
        tls = []
        if self.tls:
            path = self.certificates.path
            tls = ["--tls-cert", path("server.pem"), "--tls-key", path("server.key")]
        return [self.program, self.verb, "--listen", f"127.0.0.1:{self.port}", self.option,
                f"file://{self.data}", "--token-file", self.token_file, *tls]

    def ready(self):
        with socket.create_connection(("127.0.0.1", self.port), timeout=5):
            return True

    def url(self, port, secret=None, ca="ca.pem"):
        out = f"http{'s' if self.tls else ''}://{secret or self.secret}@127.0.0.1:{port}{self.path}"
        return out + f"?ca={self.certificates.path(ca)}" if self.tls else out

    def variables(self):
        out = {"HADB_TEST_BAD_AUTH_LEASE_URL": self.url(self.port, "wrong-secret")}
        if self.tls:
            out["HADB_TEST_BAD_CA_LEASE_URL"] = self.url(self.port, ca="stranger.pem")
        return {**super().variables(), **out}


class HttpTls(Http):
    tls = True


def aws(url, credentials):
    return {**credentials, "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/nonexistent",
            "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent", "HADB_TEST_LEASE_URL": url}


class Scripted(with_s3.Scripted):
    """The S3 server of the test suite itself, which is always there."""

    def variables(self):
        return aws(self.url.replace("/t?", "/UNIQUE?"), self.credentials)


KINDS = {"minio": Minio, "minio-tls": MinioTls, "scripted": Scripted, "redis": Redis,
         "redis-tls": RedisTls, "etcd": Etcd, "etcd-tls": EtcdTls, "nats": Nats,
         "nats-tls": NatsTls, "nats-plain": NatsPlain,
         "http": Http, "http-tls": HttpTls}


class Control(socketserver.StreamRequestHandler):
    def handle(self):
        wish = self.rfile.readline().decode().strip()
        try:
            self.server.target.tell(wish)
            self.wfile.write(b"ok\n")
        except Exception as problem:  # pylint: disable=broad-except
            self.wfile.write(f"{problem}\n".encode())


def main(kinds):
    kind, command = sys.argv[1], sys.argv[2:]
    server = kinds[kind]()
    control = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Control)
    control.daemon_threads, control.target = True, server
    threading.Thread(target=control.serve_forever, daemon=True).start()
    env = {n: v for n, v in os.environ.items() if not n.startswith("AWS_")}
    env.update(server.variables(), HADB_TEST_LEASE_CONTROL=str(control.server_address[1]))
    try:
        code = subprocess.run(command, env=env).returncode
    finally:
        server.close()
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main(KINDS)
