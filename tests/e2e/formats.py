# SPDX-License-Identifier: Apache-2.0
"""Reads what lies in storage, in a lease folder and in a node's data folder, and believes nothing.

Written from docs/formats.md and docs/formats-kv.md alone, so that a difference between them and the program is an error
here. Python's standard library, and libzstd through ctypes. Everything that does not hold raises Damage.
"""
import ctypes
import ctypes.util
import hashlib
import os
import re
import struct
import uuid

DATA, SEAL, SNAPSHOT, META, MANIFEST, NAME = range(1, 7)
HEADER, BLOB, LAST, MIB = 320, 1, 2, 1 << 20
ZERO16, ZERO32 = bytes(16), bytes(32)
BODY_MAX = {DATA: 4 * MIB, SNAPSHOT: 64 * MIB - HEADER, MANIFEST: MIB - HEADER, SEAL: 65536, META: 65536, NAME: 65536}
PAYLOAD_MAX = {**BODY_MAX, DATA: 257 * MIB, SNAPSHOT: 257 * MIB}


class Damage(Exception):
    """The bytes are not what the documents say; the text says where."""


def need(holds, what):
    if not holds:
        raise Damage(what)


def sha(data):
    return hashlib.sha256(data).digest()


def crc_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


CRC = crc_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def unzstd(data, size):
    """Exactly one frame that states this size."""
    lib = ctypes.CDLL(ctypes.util.find_library("zstd") or "libzstd.so.1")
    for name in ("ZSTD_getFrameContentSize", "ZSTD_findFrameCompressedSize", "ZSTD_decompress"):
        getattr(lib, name).restype = ctypes.c_ulonglong if "Content" in name else ctypes.c_size_t
    length = ctypes.c_size_t(len(data))
    need(data[:4] == b"\x28\xb5\x2f\xfd", "no zstd frame")
    need(lib.ZSTD_getFrameContentSize(data, length) == size, "the zstd frame states another size")
    need(lib.ZSTD_findFrameCompressedSize(data, length) == len(data), "something behind the zstd frame")
    out = ctypes.create_string_buffer(max(size, 1))
    need(lib.ZSTD_decompress(out, ctypes.c_size_t(size), data, length) == size, "zstd frame does not decompress")
    return out.raw[:size]


class Cursor:
    """Fields from the front of some bytes, all little-endian."""

    def __init__(self, data, what):
        self.data, self.at, self.what = data, 0, what

    def take(self, size):
        need(len(self.data) - self.at >= size, f"{self.what} is cut off")
        self.at += size
        return self.data[self.at - size:self.at]

    def u8(self):
        return self.take(1)[0]

    def u16(self):
        return struct.unpack("<H", self.take(2))[0]

    def u32(self):
        return struct.unpack("<I", self.take(4))[0]

    def u64(self):
        return struct.unpack("<Q", self.take(8))[0]

    def zero(self, size):
        need(not any(self.take(size)), f"{self.what}: a zero field is not zero")

    @property
    def left(self):
        return len(self.data) - self.at

    def end(self):
        need(self.left == 0, f"{self.what}: {self.left} bytes too many")


class Entry:
    """One object: header fields, hash over all its bytes, payload."""

    def __init__(self, stored, blob, what):
        """@blob(put_id, n) gives the bytes of part n of a payload that did not fit."""
        c = Cursor(stored, what)
        need(c.take(5) == b"HADBJ" and c.u8() == 1, f"{what}: magic or version")
        self.kind, codec, self.flags = c.u8(), c.u8(), c.u16()
        c.zero(6)
        self.db, self.term, self.slot, self.first, self.last = c.take(16), c.u64(), c.u64(), c.u64(), c.u64()
        self.prev, self.incarnation, self.put_id = c.take(32), c.take(16), c.take(16)
        c.zero(16)  # of page formats
        self.time = c.u64()
        c.zero(4 + 4 + 16 + 24 + 16)  # not encrypted
        stored_len, raw_len, self.durable_slot = c.u64(), c.u64(), c.u64()
        c.zero(16)
        body_hash, header_hash = c.take(32), c.take(32)
        body = c.take(c.left)
        need(self.kind in BODY_MAX and codec in (0, 1) and self.flags & ~3 == 0, f"{what}: kind, codec or flags")
        need(sha(stored[:288]) == header_hash, f"{what}: header hash")
        need(len(body) == stored_len <= BODY_MAX[self.kind], f"{what}: stored length")
        need(sha(body) == body_hash, f"{what}: body hash")
        need(raw_len <= PAYLOAD_MAX[self.kind], f"{what}: raw length")
        self.hash, self.bytes = sha(stored), len(stored)
        if self.flags & BLOB:
            body = self.join(body, blob, what)
        self.payload = unzstd(body, raw_len) if codec else body
        need(len(self.payload) == raw_len and (not codec or len(body) < raw_len), f"{what}: raw length")

    def join(self, body, blob, what):
        c = Cursor(body, f"{what}, its blobs")
        total, count = c.u64(), c.u32()
        c.zero(4)
        need(1 <= count <= 8, f"{what}: {count} blobs")
        parts = []
        for number in range(count):
            length, digest = c.u64(), c.take(32)
            part = blob(self.put_id, number)
            need(len(part) == length <= 64 * MIB and sha(part) == digest, f"{what}: blob {number}")
            parts.append(part)
            self.bytes += length
        c.end()
        joined = b"".join(parts)
        need(len(joined) == total, f"{what}: sum of the blobs")
        return joined


def transactions(data, what):
    """Yields (term, txid, operations) of encoded transactions; an operation is (key, value or None)."""
    c = Cursor(data, what)
    while c.left:
        start = c.at
        length, term, txid, _time, count = c.u32(), c.u64(), c.u64(), c.u64(), c.u32()
        need(length <= 256 * MIB, f"{what}: transaction {txid} is too long")
        ops = []
        for _ in range(count):
            kind, key_len, value_len = c.u8(), c.u32(), c.u32()
            need(kind == 1 or (kind == 2 and value_len == 0), f"{what}: operation of transaction {txid}")
            key, value = c.take(key_len), c.take(value_len)
            ops.append((key, value if kind == 1 else None))
        need(c.at - start == length, f"{what}: length of transaction {txid}")
        yield term, txid, ops


def change(state, term, txid, ops):
    """state: key -> (value, term, txid)."""
    for key, value in ops:
        if value is None:
            state.pop(key, None)
        else:
            state[key] = (value, term, txid)


def items(data, what):
    """Items as snapshots and engines hold them: (key, value, term, txid)."""
    c = Cursor(data, what)
    while c.left:
        key_len, value_len, term, txid = c.u32(), c.u32(), c.u64(), c.u64()
        yield c.take(key_len), c.take(value_len), term, txid


def users(state):
    """What HTTP shows: key -> (value, "term.txid"). The other keys have to be of a kind that is documented."""
    out = {}
    for key, (value, term, txid) in state.items():
        if key[:1] == b"k":
            out[key[1:]] = (value, f"{term}.{txid}")
        elif key[:1] == b"r":
            c = Cursor(value, "a result")
            need(len(key) == 17 and c.u8() == 1 and c.u8() in range(1, 6), "a result")
            c.zero(2)
            outcome = c.u32()
            need(outcome in (0, 6), "outcome of a result")
            c.take(8 + (24 if outcome == 6 else 0))
            c.end()
        else:
            c = Cursor(value, "the horizon")
            need(key == b"h" and c.u8() == 1, "a key of no known kind")
            c.zero(7)
            c.take(16)
            c.end()
    return out


class Position:
    """Behind an entry: the term in which the log goes on, the last DATA slot, the last transaction, the entry's hash."""

    def __init__(self, term, slot, txid, digest):
        self.term, self.slot, self.txid, self.hash = term, slot, txid, digest

    @property
    def place(self):
        return self.term, self.slot

    def __eq__(self, other):
        return vars(self) == vars(other)

    def __repr__(self):
        return f"{self.term}.{self.slot} txid {self.txid} {self.hash.hex()[:8]}"


def dashed(raw):
    return str(uuid.UUID(bytes=bytes(raw)))


class Database:
    """One database of a storage folder, all of its objects read and its history replayed."""

    def __init__(self, folder, name):
        self.folder, self.name, self.blobs = folder, name, set()  # blobs: those that are referred to
        found = Entry(self.read(f"names/{name}"), None, f"names/{name}")
        need(found.kind == NAME and found.prev == ZERO32, "NAME: header")
        c = Cursor(found.payload, "NAME")
        need(c.u8() == 1, "NAME: version")
        c.zero(7)
        self.db = c.take(16)
        c.end()
        need(found.db == self.db, "NAME: uuid")
        self.base = f"{sha(self.db)[:2].hex()}/{dashed(self.db)}"
        self.keys = self.list()
        self.read_meta()
        self.read_manifest()
        self.read_history()
        self.snapshots = {fields["name"]: self.read_snapshot(fields) for fields in self.manifest["snapshots"]}
        self.check_manifest()

    def read(self, key):
        try:
            with open(os.path.join(self.folder, key), "rb") as file:
                return file.read()
        except OSError as error:
            raise Damage(f"{key}: {error}") from None

    def list(self):
        """All keys of the database below its base; each has the form of one kind."""
        root, out = os.path.join(self.folder, self.base), []
        form = re.compile(r"meta|manifest|log/[0-9a-f]{16}/[0-9a-f]{16}|snap/[0-9a-f]{16}-[0-9a-f]{32}/[0-9a-f]{8}"
                          r"|blob/[0-9a-f]{32}-[0-7]")
        for folder, _, names in os.walk(root):
            out += [os.path.relpath(os.path.join(folder, name), root) for name in names]
        for key in out:
            need(form.fullmatch(key), f"{key} is no key of a database")
        return sorted(out)

    def entry(self, key, blob=None):
        entry = Entry(self.read(f"{self.base}/{key}"), blob or self.blob, key)
        need(entry.db == self.db, f"{key}: of another database")
        return entry

    def blob(self, put_id, number):
        key = f"blob/{put_id.hex()}-{number}"
        self.blobs.add(key)
        return self.read(f"{self.base}/{key}")

    def read_meta(self):
        entry = self.entry("meta")
        c = Cursor(entry.payload, "META")
        need(entry.kind == META and entry.prev == ZERO32 and c.u8() == 1, "META: header")
        lengths = c.take(3)
        need(c.u32() == 1, "META: format of the log")
        need(c.u32() == 0, "META: page size")
        c.zero(4)
        c.take(16 + 8)
        need(c.take(16) == ZERO16 and c.u64() == 0, "META: a fork")
        name, self.engine, digest = (c.take(length).decode() for length in lengths)
        c.end()
        need(name == self.name and digest == "sha256", "META: names")

    def read_manifest(self):
        entry = self.entry("manifest")
        need(entry.kind == MANIFEST and entry.prev == ZERO32, "MANIFEST: header")
        c = Cursor(entry.payload, "MANIFEST")
        need(c.u8() == 1, "MANIFEST: version")
        c.zero(7)
        out = {"version": c.u64(), "nonce": c.take(16), "snapshots": [], "terms": {}, "condemned": []}
        for field in ("boundary_slot", "boundary_term", "swept_slot", "swept_term", "terms_floor"):
            out[field] = c.u64()
        need(out["version"] >= 1 and out["swept_slot"] <= out["boundary_slot"], "MANIFEST: numbers")
        before = 0
        while c.left:
            tag, length = c.u32(), c.u32()
            need(tag > before and tag & 1 << 31 == 0 and length > 0, f"MANIFEST: section {tag}")
            before = tag
            section = Cursor(c.take(length), f"MANIFEST, section {tag}")
            while section.left and tag <= 3:
                self.read_section(tag, section, out)
        self.manifest = out

    @staticmethod
    def read_section(tag, c, out):
        if tag == 1:
            length = c.u8()
            c.zero(3)
            fields = {"parts": c.u32(), "bytes": c.u64(), "time": c.u64()}
            fields["position"] = Position(c.u64(), c.u64(), c.u64(), c.take(32))
            fields["last_hash"], fields["digest"], fields["name"] = c.take(32), c.take(32), c.take(length).decode()
            out["snapshots"].append(fields)
        elif tag == 2:
            term, last_slot, last_txid, digest = c.u64(), c.u64(), c.u64(), c.take(32)
            need(not out["terms"] or term > max(out["terms"]), "MANIFEST: order of terms")
            out["terms"][term] = (last_slot, last_txid, digest)
        else:
            out["condemned"].append(c.take(c.u8()).decode())

    @staticmethod
    def read_seal(entry):
        c = Cursor(entry.payload, "SEAL")
        need(c.u8() == 1, "SEAL: version")
        reason, name_len, address_len = c.u8(), c.u8(), c.u8()
        need(1 <= reason <= 5, "SEAL: reason")
        owner = c.take(16), c.take(16)
        name, address = c.take(name_len).decode("ascii"), c.take(address_len).decode("ascii")
        c.end()
        need(name or reason >= 4, "SEAL: names nobody")
        return {"reason": reason, "owner": owner, "name": name, "address": address}

    def read_history(self):
        """Replays the log from its first entry, or from the snapshot that the boundary needs."""
        self.states, self.positions, self.seals, self.kinds = {}, {}, {}, []
        state, position = {}, Position(0, 0, 0, ZERO32)
        if self.manifest["swept_slot"]:
            fields = max(self.manifest["snapshots"], key=lambda f: f["position"].slot)
            state, position = self.read_snapshot(fields), fields["position"]
        self.start = position.slot
        self.positions[position.place], self.states[position.place] = position, dict(state)
        while (key := f"log/{position.term:016x}/{position.slot + 1:016x}") in self.keys:
            entry = self.entry(key)
            need((entry.term, entry.slot, entry.prev) == (position.term, position.slot + 1, position.hash),
                 f"{key} does not link to the entry before")
            position = self.follow(entry, state, position, key)
            self.positions[position.place], self.states[position.place] = position, dict(state)
        self.position, self.state = position, state
        later = [key for key in self.keys if key.startswith(f"log/{position.term:016x}/")
                 and int(key[-16:], 16) > position.slot]
        need(not later, f"a gap in front of {later}")
        need(self.manifest["swept_slot"] or self.kinds[0] == SEAL, "the history does not begin with a seal")

    def follow(self, entry, state, position, key):
        self.kinds.append(entry.kind)
        txid, count = position.txid, 0
        if entry.kind == SEAL:
            need(entry.first == entry.last == txid, f"{key}: transactions of a seal")
            self.seals[entry.term] = {**self.read_seal(entry), "position": position, "hash": entry.hash}
            return Position(entry.term + 1, position.slot, txid, entry.hash)
        need(entry.kind == DATA and entry.first == txid + 1, f"{key}: kind or first transaction")
        for term, txid, ops in transactions(entry.payload, key):
            need(txid == entry.first + count and term <= entry.term, f"{key}: transaction {txid}")
            change(state, term, txid, ops)
            count += 1
        need(count > 0 and txid == entry.last and entry.durable_slot < entry.slot, f"{key}: header and payload")
        return Position(entry.term, entry.slot, txid, entry.hash)

    def read_snapshot(self, fields):
        base, position = f"snap/{fields['name']}", fields["position"]
        need(int(fields["name"][:16], 16) == position.slot, f"{base}: slot in the name")
        state, prev, size, digest, before = {}, position.hash, 0, hashlib.sha256(), None
        for number in range(fields["parts"]):
            def blob(_put_id, part, number=number):
                return self.read(f"{self.base}/{base}/{0x80000000 + 8 * number + part:08x}")

            entry = self.entry(f"{base}/{number:08x}", blob)
            need((entry.kind, entry.term, entry.slot, entry.first, entry.last, entry.prev) ==
                 (SNAPSHOT, position.term, position.slot, number, position.txid, prev), f"{base}/{number}: header")
            need(bool(entry.flags & LAST) == (number + 1 == fields["parts"]), f"{base}/{number}: LAST")
            prev, size = entry.hash, size + entry.bytes
            for key, value, term, txid in items(entry.payload, base):
                need(before is None or key > before, f"{base}: order of keys")
                before, state[key] = key, (value, term, txid)
                digest.update(struct.pack("<I", len(key)) + key + struct.pack("<I", len(value)) + value +
                              struct.pack("<QQ", term, txid))
        need(prev == fields["last_hash"] and size == fields["bytes"], f"{base}: last hash or stored bytes")
        need(digest.digest() == fields["digest"], f"{base}: digest")
        return state

    def check_manifest(self):
        """Everything in it is said by the history, too."""
        for fields in self.manifest["snapshots"]:
            position = fields["position"]
            if position.slot < self.start:
                continue  # its DATA may be gone
            need(self.positions.get(position.place) == position, f"snapshot {fields['name']}: position")
            need(self.states[position.place] == self.snapshots[fields["name"]], f"snapshot {fields['name']}: content")
        for term, (last_slot, last_txid, digest) in self.manifest["terms"].items():
            seal = self.seals.get(term)
            need(seal is None or (seal["position"].slot, seal["position"].txid, seal["hash"]) ==
                 (last_slot, last_txid, digest), f"MANIFEST: term {term}")
        boundary = self.manifest["boundary_term"], self.manifest["boundary_slot"]
        need(boundary == (0, 0) or boundary in self.positions, "MANIFEST: boundary")


class Engine:
    """A folder of the kv engine, closed: replayed by itself, without the log in storage."""

    def __init__(self, folder):
        self.state, self.mark, self.txid = {}, Position(0, 0, 0, ZERO32), 0
        self.undo, self.ingesting, self.last_type = [], False, None
        names = sorted(name for name in os.listdir(folder) if name != "LOCK")
        need(names == [f"seg-{number:016x}.kv" for number in range(1, len(names) + 1)], f"{folder}: {names}")
        base, self.db = 0, None
        for number, name in enumerate(names, 1):
            with open(os.path.join(folder, name), "rb") as file:
                data = file.read()
            self.segment(data, number, base, name)
            base += len(data)
        need(self.last_type == 5, "the engine was not closed in order")

    def segment(self, data, number, base, name):
        c = Cursor(data, name)
        need(c.take(8) == b"hadbkv1\n" and c.u32() == 1 and c.u32() == 64, f"{name}: magic, version, header")
        db = c.take(16)
        need(self.db in (None, db) and (c.u64(), c.u64()) == (number, base), f"{name}: database, number or position")
        self.db = db
        c.take(8)
        c.zero(4)
        need(c.u32() == crc32c(data[:60]), f"{name}: checksum of the header")
        while c.left:
            start = c.at
            need(start % 8 == 0, f"{name}: a record is not aligned")
            crc, length, kind, flags = c.u32(), c.u32(), c.u8(), c.u8()
            c.zero(6)
            need((c.u64() == base + start) and c.u64() <= base + start, f"{name}: positions at {start}")
            payload = c.take(length)
            c.zero(-length % 8)
            need(crc == crc32c(db + data[start + 4:c.at]), f"{name}: checksum at {start}")
            self.record(kind, flags, Cursor(payload, f"{name} at {start}"))
            self.last_type = kind

    def record(self, kind, flags, c):
        need(flags == 0 or (flags == 1 and kind == 1), f"{c.what}: flags {flags}")
        if kind == 1:
            mark = self.read_mark(c) if flags else None
            for term, txid, ops in transactions(c.take(c.left), c.what):
                need(txid == self.txid + 1, f"{c.what}: transaction {txid} after {self.txid}")
                self.undo.append((txid, {key: self.state.get(key) for key, _ in ops}))
                change(self.state, term, txid, ops)
                self.txid = txid
            if mark:
                self.set_mark(mark)
        elif kind == 2:
            self.set_mark(self.read_mark(c))
        elif kind == 3:
            self.rewind()
        elif kind == 4:
            self.ingesting = True
            for key, value, term, txid in items(c.take(c.left), c.what):
                self.state[key] = (value, term, txid)
        else:
            need(kind == 5, f"{c.what}: type {kind}")
        c.end()

    @staticmethod
    def read_mark(c):
        return Position(c.u64(), c.u64(), c.u64(), c.take(32))

    def set_mark(self, mark):
        if self.ingesting:
            self.txid, self.ingesting = mark.txid, False
        need(self.mark.txid <= mark.txid <= self.txid, f"a mark at {mark} in front of transaction {self.txid}")
        self.mark = mark
        self.undo = [step for step in self.undo if step[0] > mark.txid]

    def rewind(self):
        if self.ingesting:
            self.state, self.ingesting = {}, False
        for _, before in reversed(self.undo):
            for key, old in before.items():
                if old is None:
                    self.state.pop(key, None)
                else:
                    self.state[key] = old
        self.undo, self.txid = [], self.mark.txid


def sealed_by_crc(data, what):
    need(len(data) >= 4 and struct.unpack("<I", data[-4:])[0] == crc32c(data[:-4]), f"{what}: checksum")
    return Cursor(data[:-4], what)


def padded(c, size):
    text, _, rest = c.take(size).partition(b"\0")
    need(not any(rest), f"{c.what}: padding")
    return text.decode("ascii")


def read_terms(data):
    """The file `terms`: (uuid, {term: (last slot, last txid, seal hash, node id, incarnation)}, name, address)."""
    c = sealed_by_crc(data, "terms")
    need(c.take(8) == b"HADBTERM" and c.u32() == 1, "terms: magic or version")
    count, db, floor = c.u32(), c.take(16), c.u64()
    name, address, out = padded(c, 64), padded(c, 256), {}
    for _ in range(count):
        term = c.u64()
        need(term >= floor and (not out or term == max(out) + 1), "terms: order")
        out[term] = (c.u64(), c.u64(), c.take(32), c.take(16), c.take(16))
    c.end()
    return db, out, name, address


def read_lease(data):
    """A record of the lease store file: as (version, record)."""
    c = Cursor(data, "lease file")
    need(c.take(8) == b"hadblse1", "lease file: magic")
    version, _nonce, length, crc = c.u64(), c.take(16), c.u32(), c.u32()
    record = c.take(length)
    c.end()
    need(crc == crc32c(data[:36] + record), "lease file: checksum")
    return version, record


def read_node(record):
    c = sealed_by_crc(record, "node record")
    need(c.take(8) == b"HADBNODE" and c.u8() == 1, "node record: magic or version")
    state, name_len, address_len, ttl_ms = c.u8(), c.u8(), c.u8(), c.u32()
    node, incarnation, counter, given_up = c.take(16), c.take(16), c.u64(), c.u32()
    name, address = c.take(name_len).decode("ascii"), c.take(address_len).decode("ascii")
    c.take(16 * given_up)
    c.end()
    need(state in (1, 2), "node record: state")
    return {"state": state, "ttl_ms": ttl_ms, "node": node, "incarnation": incarnation, "counter": counter,
            "name": name, "address": address}
