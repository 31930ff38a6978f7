# SPDX-License-Identifier: Apache-2.0
"""Servers with a certificate that is wrong in one way, and servers that are no servers. Free ports of loopback."""
import os
import socket
import ssl
import sys
import threading

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(os.path.dirname(HERE)), "scripts")]
import minio  # noqa: E402
from with_lease import Certificates  # noqa: E402


def sign_again(certificates, names="IP:127.0.0.1,DNS:localhost", days=2):
    """The server's certificate once more: for other names, or one that has expired (days=-1)."""
    path = certificates.path
    with open(path("server.ext"), "w", encoding="utf-8") as out:
        out.write(f"subjectAltName={names}\nextendedKeyUsage=serverAuth,clientAuth\n")
    minio.openssl("x509", "-req", "-in", path("server.csr"), "-CA", path("ca.pem"), "-CAkey",
                  path("ca.key"), "-CAcreateserial", "-days", str(days), "-extfile",
                  path("server.ext"), "-out", path("server.pem"))


class Listener:
    """Takes connections and hands each to serve(), on a thread of its own."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.taken = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.taken.append(connection)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        """Half open: takes connections, and never says a word."""

    def close(self):
        self.listener.close()
        for connection in self.taken:
            connection.close()


class Tls(Listener):
    """Shakes hands with its certificate, and says no more."""

    def __init__(self, folder, **certificate):
        self.certificates = Certificates(folder)
        sign_again(self.certificates, **certificate)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.certificates.path("server.pem"),
                                     self.certificates.path("server.key"))
        super().__init__()

    def serve(self, connection):
        try:
            with self.context.wrap_socket(connection, server_side=True) as secured:
                while secured.recv(4096):
                    pass
        except OSError:
            pass
