#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An S3 server in memory, for tests: strict about signatures, and wrong exactly where a script says so.

It serves one bucket on loopback. POST /-/control takes a JSON object and answers with one:
  {"reset": true}                 everything as at the start, but the objects; uploads are forgotten
  {"set": {NAME: VALUE}}          see SETTINGS
  {"fault": {...}}                one more fault, see FAULTS; {"release": true} ends waiting ones
  {"put": {NAME: TEXT}}           objects as somebody else would have stored them
  {"upload": {NAME: SECONDS}}     uploads in parts that were begun so long ago and not ended
  {}                              {"requests": [...], "counts": {"GET": 3, ...}, "connections": N, ...}
It also plays STS, container and instance metadata below /-/sts, /-/container and /-/imds.
"""
import base64
import datetime
import hashlib
import hmac
import json
import os
import re
import socket
import socketserver
import sys
import threading
import time
import urllib.parse
import xml.etree.ElementTree as ET
from email.utils import formatdate

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts"))
from minio import BUCKET, REGION, UNRESERVED, encode, sign  # noqa: E402

KEY_ID, SECRET = "TESTKEYID", "test/secret+key"
NAMES_200 = {200: "OK", 204: "No Content", 206: "Partial Content"}
TAGS = ("md5", "unquoted", "weak", "opaque", "multipart")

SETTINGS = {
    "etag": "md5",               # one of TAGS
    "ignore_conditions": False,  # every put is stored
    "check_then_act": False,     # conditions are looked at, then the put is stored, not in one step
    "ignore_create": False,      # If-None-Match alone is not looked at
    "ignore_match": False,       # If-Match alone is not looked at, where the key is there
    "match_creates": False,      # If-Match on an absent key stores
    "stale_reads": False,        # the first read after a put sees what was there before
    "remembers_absence": False,  # a key that was found absent stays so for the next read
    "one_tag": False,            # all objects have one ETag
    "flips": False,              # bodies over 64 KiB come back with another byte
    "absent_if_match": 412,      # status of If-Match on an absent key: 412 or 404
    "clock_offset_s": 0,         # of Date, and of the check of x-amz-date
    "check_clock": True,         # a wrong clock is refused
    "tell_skew": True,           # a wrong clock has a body that says so
    "keys": {KEY_ID: [SECRET, ""]},  # key id: [secret, session token]
    "expired": [],               # key ids whose token has expired
    "region": REGION,
    "ignore_range": False,       # a ranged get answers 200 with the whole object
    "ignore_start_after": False,
    "request_id": True,          # replies of its own have x-amz-request-id
    "plain_listing": False,      # names in listings are not encoded
    "sts": None, "container": None, "imds": None,  # credentials that are given out
}

# A fault: {"method": "PUT", "path": REGEX, "times": 1, "do": ...}. What "do" may be:
FAULTS = {
    "status": "answer status/code/body/headers, `endless`: with a body that never ends; nothing is applied",
    "apply_status": "apply it, then answer so",
    "drop": "close the connection; nothing is applied",
    "apply_drop": "apply it, then close the connection",
    "drop_apply_later": "close the connection, apply it at release",
    "stall": "apply nothing and say nothing until release",
    "apply_stall": "apply it, then say nothing until release",
    "gather": "apply it, and answer once `count` such requests wait for that",
    "truncate": "send only `bytes` of the body, then close",
    "drip": "send the body byte by byte, `ms` apart",
    "inside_headers": "close before the headers of the answer have ended",
    "no_etag": "leave ETag out", "no_length": "leave Content-Length out and close at the end",
    "garbage": "answer with bytes that are not HTTP",
}


class Refused(Exception):
    def __init__(self, status, code, message="", extra="", headers=()):
        super().__init__(code)
        self.status, self.code, self.headers = status, code, list(headers)
        self.body = (f"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code>"
                     f"<Message>{message or code}</Message>{extra}</Error>").encode()


class Hang(Exception):
    """The connection is closed without another byte."""


class Request:
    def __init__(self, method, target, headers, body):
        self.method, self.target, self.headers, self.body = method, target, headers, body
        self.path, _, raw = target.partition("?")
        self.query = [(urllib.parse.unquote(n), urllib.parse.unquote(v)) for n, _, v in
                      (p.partition("=") for p in raw.split("&") if p)]
        self.raw_query = raw

    def param(self, name, default=None):
        return dict(self.query).get(name, default)


class S3Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, port=0):
        self.mu = threading.Lock()
        self.objects = {}  # name: (body, etag)
        self.before, self.missed = {}, set()  # of stale_reads, of remembers_absence
        self.uploads = {}  # id: {"name", "initiated", "parts": {number: (body, etag)}}
        self.serial = 0
        self.connections = 0
        self.release = threading.Event()
        self.reset()
        super().__init__(("127.0.0.1", port), Handler)

    @property
    def origin(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        pass  # clients may go away at any moment

    def reset(self):
        self.settings = json.loads(json.dumps(SETTINGS))
        self.faults, self.log, self.gate = [], [], None
        self.release.set()
        self.release = threading.Event()

    # --- control ---------------------------------------------------------------------------------

    def control(self, wish):
        with self.mu:
            if wish.get("reset"):
                self.reset()
                self.uploads.clear()
                self.before.clear()
                self.missed.clear()
            for name, value in wish.get("set", {}).items():
                assert name in SETTINGS, name
                self.settings[name] = value
            if wish.get("fault"):
                fault = dict(wish["fault"])
                assert fault["do"] in FAULTS, fault
                fault.setdefault("times", 1)
                self.faults.append(fault)
            for name, age_s in wish.get("upload", {}).items():  # begun by somebody else, so long ago
                self.begin_upload(name, age_s)
            for name, text in wish.get("put", {}).items():
                self.objects[name] = (text.encode(), self.new_tag(text.encode()))
            if wish.get("release"):
                self.release.set()
                self.release = threading.Event()
            counts = {}
            for entry in self.log:
                counts[entry["method"]] = counts.get(entry["method"], 0) + 1
            return {"requests": self.log[-100:], "counts": counts, "total": len(self.log),
                    "connections": self.connections, "objects": len(self.objects),
                    "uploads": sorted(u["name"] for u in self.uploads.values()),
                    "faults_left": sum(f["times"] for f in self.faults)}

    def take_fault(self, request):
        with self.mu:
            for fault in self.faults:
                if fault["times"] > 0 and fault.get("method", request.method) == request.method and \
                        re.search(fault.get("path", ""), request.target):
                    fault["times"] -= 1
                    return fault
        return None

    def gather(self, count):
        with self.mu:
            self.gate = self.gate or threading.Barrier(count)
            gate = self.gate
        try:
            gate.wait(20)
        except threading.BrokenBarrierError:
            raise Hang from None

    # --- who asks --------------------------------------------------------------------------------

    def now(self):
        return time.time() + self.settings["clock_offset_s"]

    def authenticate(self, request):
        h = request.headers
        match = re.fullmatch(r"AWS4-HMAC-SHA256 Credential=([^/,]+)/(\d{8})/([^/,]+)/s3/aws4_request, "
                             r"SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})",
                             h.get("authorization", ""))
        if not match:
            raise Refused(403, "AccessDenied", "the Authorization header is malformed")
        key_id, day, region, signed, signature = match.groups()
        date, names = h.get("x-amz-date", ""), signed.split(";")
        if region != self.settings["region"]:
            raise Refused(400, "AuthorizationHeaderMalformed", "the region is wrong",
                          f"<Region>{self.settings['region']}</Region>")
        if not re.fullmatch(r"\d{8}T\d{6}Z", date) or date[:8] != day:
            raise Refused(403, "AccessDenied", "x-amz-date")
        stamp = datetime.datetime.strptime(date, "%Y%m%dT%H%M%SZ")
        stamp = stamp.replace(tzinfo=datetime.timezone.utc).timestamp()
        if self.settings["check_clock"] and abs(stamp - self.now()) > 900:
            refusal = Refused(403, "RequestTimeTooSkewed", "the difference is too large")
            if not self.settings["tell_skew"]:
                refusal.body = b""
            raise refusal
        must = {"host", "x-amz-content-sha256", "x-amz-date"} | {
            n for n in h if n.startswith("x-amz-") or n in ("if-match", "if-none-match", "range",
                                                            "content-md5", "content-type")}
        if names != sorted(set(names)) or must - set(names) or any(n not in h for n in names):
            raise Refused(403, "AccessDenied", f"headers that must be signed: {sorted(must)}")
        if key_id not in self.settings["keys"]:
            raise Refused(403, "InvalidAccessKeyId")
        secret, token = self.settings["keys"][key_id]
        if key_id in self.settings["expired"]:
            raise Refused(400, "ExpiredToken", "the token has expired")
        if h.get("x-amz-security-token", "") != token:
            raise Refused(403, "InvalidToken")
        if encode(urllib.parse.unquote(request.path), UNRESERVED + "/") != request.path:
            raise Refused(400, "InvalidURI", "the path is not encoded as S3 wants it")
        if "&".join(sorted(f"{encode(n)}={encode(v)}" for n, v in request.query)) != request.raw_query:
            raise Refused(400, "InvalidURI", "the query is not encoded or sorted")
        want = sign(request.method, request.path, request.query, {n: h[n] for n in names},
                    h["x-amz-content-sha256"], secret, date, region)
        if not hmac.compare_digest(want, signature):
            raise Refused(403, "SignatureDoesNotMatch")
        self.check_payload(request)

    @staticmethod
    def check_payload(request):
        claimed = request.headers["x-amz-content-sha256"]
        if claimed == "UNSIGNED-PAYLOAD":
            if "x-amz-checksum-crc32c" not in request.headers:
                raise Refused(400, "InvalidRequest", "unsigned and without a checksum")
        elif hashlib.sha256(request.body).hexdigest() != claimed:
            raise Refused(400, "XAmzContentSHA256Mismatch")

    # --- what is asked ---------------------------------------------------------------------------

    def new_tag(self, body):
        self.serial += 1
        md5 = hashlib.md5(b"" if self.settings["one_tag"] else body).hexdigest()
        return {"md5": f'"{md5}"', "unquoted": md5, "weak": f'W/"{md5}"',
                "opaque": f'"v{self.serial:08x}-{md5[:6].upper()}+/=="', "multipart": f'"{md5}-1"',
                }[self.settings["etag"]]

    def refuse_put(self, name, headers):
        """The conditions of a put, or None."""
        held, lie = self.objects.get(name), self.settings
        if lie["ignore_conditions"] or (lie["ignore_create"] and "if-none-match" in headers) or \
                (lie["ignore_match"] and "if-match" in headers and held) or \
                (lie["match_creates"] and "if-match" in headers and not held):
            return None
        if "if-none-match" in headers:
            if headers["if-none-match"] != "*":
                return Refused(501, "NotImplemented")
            return Refused(412, "PreconditionFailed") if held else None
        if "if-match" in headers:
            if not held:
                status = self.settings["absent_if_match"]
                return Refused(status, "NoSuchKey" if status == 404 else "PreconditionFailed")
            return None if held[1] == headers["if-match"] else Refused(412, "PreconditionFailed")
        return Refused(400, "InvalidRequest", "a put without a condition")

    def put(self, request, name):
        if self.settings["check_then_act"]:
            with self.mu:
                refusal = self.refuse_put(name, request.headers)
            time.sleep(0.02)  # the fault itself: the door between looking and acting stands open
            if refusal:
                raise refusal
            with self.mu:
                tag = self.new_tag(request.body)
                self.objects[name] = (request.body, tag)
            return 200, [("ETag", tag)], b""
        with self.mu:
            refusal = self.refuse_put(name, request.headers)
            if refusal:
                raise refusal
            tag = self.new_tag(request.body)
            self.before[name] = self.objects.get(name)
            self.objects[name] = (request.body, tag)
        return 200, [("ETag", tag)], b""

    def held(self, name):
        """What a read is told of it: the truth, unless a setting says otherwise. The lock is held."""
        truth = self.objects.get(name)
        if self.settings["stale_reads"] and name in self.before:
            return self.before.pop(name)
        if self.settings["remembers_absence"]:
            if name in self.missed:
                self.missed.discard(name)
                return None
            if not truth:
                self.missed.add(name)
        if truth and self.settings["flips"] and len(truth[0]) > 65536:
            return truth[0][:70] + bytes([truth[0][70] ^ 1]) + truth[0][71:], truth[1]
        return truth

    # --- uploads in parts --------------------------------------------------------------------------

    def begin_upload(self, name, age_s=0):
        self.serial += 1
        identity = f"upload/{self.serial}+&="  # as opaque as they come
        self.uploads[identity] = {"name": name, "initiated": self.now() - age_s, "parts": {}}
        return identity

    def upload_of(self, request, name):
        upload = self.uploads.get(request.param("uploadId"))
        if not upload or upload["name"] != name:
            raise Refused(404, "NoSuchUpload")
        return upload

    def put_part(self, request, name):
        with self.mu:
            tag = self.new_tag(request.body)
            self.upload_of(request, name)["parts"][int(request.param("partNumber"))] = (request.body, tag)
        return 200, [("ETag", tag)], b""

    def complete(self, request, name):
        given = [(int(p.findtext("PartNumber")), p.findtext("ETag"))
                 for p in ET.fromstring(request.body).findall("Part")]
        with self.mu:
            parts = self.upload_of(request, name)["parts"]
            if [(n, parts[n][1]) for n in sorted(parts)] != given or \
                    any(len(parts[n][0]) < 5 << 20 for n, _ in given[:-1]):
                raise Refused(400, "InvalidPart")
            refusal = self.refuse_put(name, request.headers)
            if refusal:
                raise refusal
            body = b"".join(parts[n][0] for n, _ in given)
            tag = self.new_tag(body)
            self.objects[name] = (body, tag)
            del self.uploads[request.param("uploadId")]
        shown = tag.replace('"', "&quot;")
        return 200, [], ("<?xml version=\"1.0\"?><CompleteMultipartUploadResult "
                         "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
                         f"<ETag>{shown}</ETag></CompleteMultipartUploadResult>").encode()

    def list_uploads(self, request):
        stamp = "%Y-%m-%dT%H:%M:%S.000Z"
        with self.mu:
            found = "".join(
                f"<Upload><Key>{encode(u['name'], UNRESERVED + '/')}</Key><UploadId>"
                f"{i.replace('&', '&amp;')}</UploadId><Initiated>"
                f"{time.strftime(stamp, time.gmtime(u['initiated']))}</Initiated></Upload>"
                for i, u in self.uploads.items() if u["name"].startswith(request.param("prefix", "")))
        return 200, [], (f"<ListMultipartUploadsResult><EncodingType>url</EncodingType>{found}"
                         "<IsTruncated>false</IsTruncated></ListMultipartUploadsResult>").encode()

    def act_on_upload(self, request, name):
        """What belongs to uploads in parts, or None."""
        method, names = request.method, {n for n, _ in request.query}
        if "uploads" in names and method == "GET":
            return self.list_uploads(request)
        if "uploads" in names and method == "POST":
            with self.mu:
                identity = self.begin_upload(name).replace("&", "&amp;")
            return 200, [], (f"<InitiateMultipartUploadResult><UploadId>{identity}</UploadId>"
                             "</InitiateMultipartUploadResult>").encode()
        if "uploadId" not in names:
            return None
        if method == "PUT":
            return self.put_part(request, name)
        if method == "POST":
            return self.complete(request, name)
        with self.mu:
            self.upload_of(request, name)
            del self.uploads[request.param("uploadId")]
        return 204, [], b""

    def get(self, request, name):
        with self.mu:
            held = self.held(name)
        if not held:
            raise Refused(404, "NoSuchKey")
        body, tag = held
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("range", ""))
        if not match or self.settings["ignore_range"]:
            return 200, [("ETag", tag)], body
        first, last = int(match.group(1)), min(int(match.group(2)), len(body) - 1)
        if first >= len(body):
            raise Refused(416, "InvalidRange")
        span = f"bytes {first}-{last}/{len(body)}"
        return 206, [("ETag", tag), ("Content-Range", span)], body[first:last + 1]

    def list(self, request):
        if request.param("list-type") != "2":
            raise Refused(501, "NotImplemented")
        prefix, after = request.param("prefix", ""), request.param("start-after", "")
        after = "" if self.settings["ignore_start_after"] else after
        most = min(int(request.param("max-keys", "1000")), 1000)
        url = request.param("encoding-type") == "url" and not self.settings["plain_listing"]
        with self.mu:
            names = sorted(n for n in self.objects if n.startswith(prefix) and n > after)
            sizes = {n: (len(self.objects[n][0]), self.objects[n][1]) for n in names[:most]}
        show = (lambda n: encode(n, UNRESERVED + "/")) if url else \
            (lambda n: n.replace("&", "&amp;").replace("<", "&lt;"))
        out = ['<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult '
               'xmlns="http://s3.amazonaws.com/doc/2006-03-01/">',
               f"<Name>{BUCKET}</Name><Prefix>{show(prefix)}</Prefix><MaxKeys>{most}</MaxKeys>"]
        for n, (size, tag) in sizes.items():
            tag = tag.replace('"', "&quot;")
            out.append(f"<Contents><Key>{show(n)}</Key><LastModified>2026-01-01T00:00:00.000Z"
                       f"</LastModified><ETag>{tag}</ETag><Size>{size}</Size></Contents>")
        out.append("<EncodingType>url</EncodingType>" if url else "")
        out.append(f"<IsTruncated>{str(len(names) > most).lower()}</IsTruncated></ListBucketResult>")
        return 200, [("Content-Type", "application/xml")], "".join(out).encode()

    def delete(self, request):
        digest = base64.b64encode(hashlib.md5(request.body).digest()).decode()
        if request.headers.get("content-md5") != digest:
            raise Refused(400, "BadDigest")
        root = ET.fromstring(request.body)
        names = [o.findtext("Key") for o in root.findall("Object")]
        if root.findtext("Quiet") != "true" or not 1 <= len(names) <= 1000:
            raise Refused(400, "MalformedXML")
        with self.mu:
            for name in names:
                self.objects.pop(name, None)
        return 200, [], b"<DeleteResult></DeleteResult>"

    def apply(self, request):
        if request.path.startswith("/-/"):
            return self.play_source(request)
        self.authenticate(request)
        bucket, _, name = urllib.parse.unquote(request.path).lstrip("/").partition("/")
        host = request.headers.get("host", "")
        if host.startswith(BUCKET + "."):
            bucket, name = BUCKET, urllib.parse.unquote(request.path)[1:]
        if bucket != BUCKET:
            raise Refused(404, "NoSuchBucket")
        answer = self.act_on_upload(request, name)
        if answer:
            return answer
        if not name and request.method == "GET":
            return self.list(request)
        if not name and request.method == "POST" and request.param("delete") is not None:
            return self.delete(request)
        if name and request.method == "PUT":
            return self.put(request, name)
        if name and request.method in ("GET", "HEAD"):
            return self.get(request, name)
        raise Refused(405, "MethodNotAllowed")

    # --- sources of credentials ------------------------------------------------------------------

    def play_source(self, request):
        path, given = request.path, self.settings
        if path == "/-/sts/" and given["sts"]:
            form = dict(urllib.parse.parse_qsl(request.body.decode()))
            wants = given["sts"]
            if form.get("Action") != "AssumeRoleWithWebIdentity" or \
                    form.get("WebIdentityToken") != wants["identity"] or \
                    form.get("RoleArn") != wants["role"]:
                raise Refused(400, "InvalidIdentityToken")
            c = wants["credentials"]
            fields = "".join(f"<{n}>{c[o]}</{n}>" for n, o in (
                ("AccessKeyId", "AccessKeyId"), ("SecretAccessKey", "SecretAccessKey"),
                ("SessionToken", "Token"), ("Expiration", "Expiration")))
            return 200, [], (
                '<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
                f"<AssumeRoleWithWebIdentityResult><Credentials>{fields}</Credentials>"
                "</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>").encode()
        if path == "/-/container" and given["container"]:
            if request.headers.get("authorization") != given["container"]["token"]:
                raise Refused(403, "AccessDenied")
            return 200, [], json.dumps(given["container"]["credentials"]).encode()
        if path.startswith("/-/imds/latest/") and given["imds"]:
            rest = path[len("/-/imds/latest/"):]
            if rest == "api/token" and request.method == "PUT" and \
                    "x-aws-ec2-metadata-token-ttl-seconds" in request.headers:
                return 200, [], b"session-of-imds"
            if request.headers.get("x-aws-ec2-metadata-token") != "session-of-imds":
                raise Refused(401, "Unauthorized")
            if rest == "meta-data/iam/security-credentials/":
                return 200, [], b"the-role"
            if rest == "meta-data/iam/security-credentials/the-role":
                return 200, [], json.dumps(given["imds"]).encode()
        raise Refused(404, "NotFound")


class Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self):
        with self.server.mu:
            self.server.connections += 1
        try:
            while self.one():
                pass
        except (Hang, ConnectionError, ValueError):
            # Close with a reset, as a server that dies does, so that nothing looks like an orderly end.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    def read(self):
        line = self.rfile.readline(65536).decode("latin-1").split()
        if len(line) != 3:
            return None
        headers = {}
        while True:
            raw = self.rfile.readline(65536).decode("latin-1").rstrip("\r\n")
            if not raw:
                break
            name, _, value = raw.partition(":")
            headers[name.strip().lower()] = value.strip()
        if "expect" in headers:
            raise ValueError("Expect")
        return Request(line[0], line[1], headers, self.rfile.read(int(headers.get("content-length", 0))))

    def one(self):
        request = self.read()
        if not request:
            return False
        if request.path == "/-/control":
            answer = self.server.control(json.loads(request.body or b"{}"))
            self.send(request, 200, [], json.dumps(answer).encode(), {})
            return True
        with self.server.mu:
            self.server.log.append({"method": request.method, "target": request.target,
                                    "headers": request.headers, "bytes": len(request.body)})
        fault = self.server.take_fault(request) or {"do": ""}
        with self.server.mu:
            release = self.server.release
        status, headers, body = self.act(request, fault, release)
        self.send(request, status, headers, body, fault)
        return fault["do"] not in ("no_length", "truncate", "garbage", "inside_headers")

    def act(self, request, fault, release):
        do = fault["do"]
        if do == "drop":
            raise Hang
        if do == "drop_apply_later":
            threading.Thread(target=self.apply_later, args=(request, release), daemon=True).start()
            raise Hang
        if do == "stall":
            release.wait(30)
            raise Hang
        if do == "status":
            return self.scripted(fault)
        try:
            status, headers, body = self.server.apply(request)
        except Refused as r:
            status, headers, body = r.status, r.headers, r.body
        if do == "apply_status":
            return self.scripted(fault)
        if do == "apply_drop":
            raise Hang
        if do == "apply_stall":
            release.wait(30)
            raise Hang
        if do == "gather":
            self.server.gather(fault["count"])
        return status, headers, body

    def apply_later(self, request, release):
        if release.wait(30):
            try:
                self.server.apply(request)
            except Refused:
                pass

    @staticmethod
    def scripted(fault):
        refused = Refused(fault["status"], fault.get("code", "Scripted"), fault.get("message", ""),
                          fault.get("extra", ""))
        body = fault["body"].encode() if "body" in fault else refused.body
        return fault["status"], list(map(tuple, fault.get("headers", []))), body

    def send(self, request, status, headers, body, fault):
        do = fault.get("do", "")
        if do == "garbage":
            self.wfile.write(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
            return
        date = formatdate(self.server.now(), usegmt=True)
        lines = [f"HTTP/1.1 {status} {NAMES_200.get(status, 'Refused')}", f"Date: {date}",
                 "Server: scripted"]
        if self.server.settings["request_id"] and do not in ("status", "apply_status"):
            lines.append("x-amz-request-id: 1")
        lines += [f"{n}: {v}" for n, v in headers if not (n == "ETag" and do == "no_etag")]
        bodiless = status in (204, 304) or 100 <= status < 200
        if not bodiless and do != "no_length":
            lines.append(f"Content-Length: {1 << 40 if fault.get('endless') else len(body)}")
        if do == "no_length":
            lines.append("Connection: close")
        head = "\r\n".join(lines).encode("latin-1")
        if do == "inside_headers":
            self.wfile.write(head + b"\r\n")  # all of them, but not the empty line that ends them
            return
        rest = b"" if bodiless or request.method == "HEAD" else body
        if do == "truncate":
            rest = rest[:fault.get("bytes", 0)]
        if do == "drip":
            self.wfile.write(head + b"\r\n\r\n")
            for i in range(len(rest)):
                time.sleep(fault.get("ms", 10) / 1000)
                self.wfile.write(rest[i:i + 1])
            return
        self.wfile.write(head + b"\r\n\r\n" + rest)
        while fault.get("endless"):  # until the client has had enough
            self.wfile.write(b" " * 65536)


def start(port=0):
    """A running server; its shutdown() and server_close() end it."""
    server = S3Server(port)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server


if __name__ == "__main__":
    running = start()
    print(running.origin, flush=True)
    threading.Event().wait()
