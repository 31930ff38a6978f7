#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A blob service after docs/storage-http.md, in memory, written from that page alone: what it takes to write another one.

The base of a request chooses a store of its own and how honest it is: /honest, /ignores (takes every PUT, whatever its
condition) and /races (looks first and acts later).
"""
import base64
import hashlib
import http.server
import json
import re
import threading
import urllib.parse

BASES = ("honest", "ignores", "races")
KEY = re.compile(r"(?!\.)[A-Za-z0-9_.-]+(/(?!\.)[A-Za-z0-9_.-]+)*")
LEN_MAX, BODY_MAX, LOOK_S = 1000, 64 << 20, 0.05


class Store:
    def __init__(self):
        self.lock, self.objects, self.serial = threading.Lock(), {}, 0
        self.looked, self.looks = threading.Condition(self.lock), {}  # of /races: PUTs that saw a tag


def digest(body):
    return "sha-256=:" + base64.b64encode(hashlib.sha256(body).digest()).decode() + ":"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    def log_message(self, *args):
        pass

    def answer(self, status, body=b"", kind="application/octet-stream", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if status != 204:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", headers.get("Content_Length") or str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status, name, message="no"):
        text = json.dumps({"error": name, "message": message}).encode()
        self.answer(status, text, "application/json", Hadb_Error=name)

    def handle_one(self):
        length = int(self.headers.get("Content-Length", 0))
        self.body = self.rfile.read(length)
        path, _, query = self.path.partition("?")
        _, base, *rest = path.split("/", 2)
        if base not in BASES:
            return self.refuse(404, "NOT_FOUND")
        self.base, self.store = base, self.server.stores[base]
        if not rest:
            self.query = dict(urllib.parse.parse_qsl(query))
            return {"GET": self.list, "POST": self.delete}.get(self.command, self.wrong_method)()
        self.key = rest[0]
        if not KEY.fullmatch(self.key) or len(self.key) > 1024:
            return self.refuse(400, "EINVAL")
        return {"GET": self.read, "HEAD": self.read, "PUT": self.write}.get(self.command, self.wrong_method)()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_one

    def wrong_method(self):
        self.refuse(405, "EINVAL")

    def read(self):
        with self.store.lock:
            found = self.store.objects.get(self.key)
        if found is None:
            return self.refuse(404, "ABSENT")
        body, tag = found
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not wanted or self.command == "HEAD":
            return self.answer(200, body, ETag=tag, Content_Digest=digest(body))
        first, last = int(wanted[1]), min(int(wanted[2]), len(body) - 1)
        if first >= len(body):
            return self.refuse(416, "RANGE")
        part = body[first:last + 1]
        return self.answer(206, part, ETag=tag, Content_Digest=digest(part),
                           Content_Range=f"bytes {first}-{last}/{len(body)}")

    def holds(self):
        found = self.store.objects.get(self.key)
        if self.headers.get("If-None-Match") == "*":
            return found is None
        return found is not None and found[1] == self.headers["If-Match"]

    def put(self):
        self.store.serial += 1
        tag = f'"{self.store.serial}"'
        self.store.objects[self.key] = (self.body, tag)
        return tag

    def write(self):
        creates = self.headers.get("If-None-Match") == "*"
        if creates == ("If-Match" in self.headers):
            return self.refuse(428, "EINVAL")
        if len(self.body) > BODY_MAX:
            return self.refuse(413, "ETOOBIG")
        if self.headers.get("Content-Digest", digest(self.body)) != digest(self.body):
            return self.refuse(400, "BAD_DIGEST")
        with self.store.lock:
            fits = self.base == "ignores" or self.holds()
            if fits and self.base == "races":  # nobody acts before another one has looked, if there is one
                seen = (self.key, self.store.objects.get(self.key, (None, None))[1])
                self.store.looks[seen] = self.store.looks.get(seen, 0) + 1
                self.store.looked.notify_all()
                self.store.looked.wait_for(lambda: self.store.looks[seen] > 1, LOOK_S)
            tag = self.put() if fits else None
        if not fits:
            return self.refuse(412, "EXISTS" if creates else "LOST")
        return self.answer(201 if creates else 200, ETag=tag)

    def list(self):
        prefix, after = self.query.get("prefix", ""), self.query.get("after", "")
        most = int(self.query.get("max", LEN_MAX))
        if not 1 <= most <= LEN_MAX:
            return self.refuse(400, "EINVAL")
        with self.store.lock:
            names = sorted(k for k in self.store.objects if k.startswith(prefix) and k > after)
            page = [{"key": k, "size": len(self.store.objects[k][0])} for k in names[:most]]
        text = json.dumps({"objects": page, "truncated": len(names) > most}).encode()
        return self.answer(200, text, "application/json", Content_Digest=digest(text))

    def delete(self):
        with self.store.lock:
            for key in json.loads(self.body)["delete"]:
                self.store.objects.pop(key, None)
        return self.answer(204)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads, request_queue_size = True, 256


def start():
    """A running server on a free port of loopback; .origin is its address."""
    server = Server(("127.0.0.1", 0), Handler)
    server.stores = {base: Store() for base in BASES}
    server.origin = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
