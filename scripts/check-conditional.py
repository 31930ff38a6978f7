#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""I9 of the protocol (4.14): no unconditional write and no deletion of a lease exists.

What a machine may ask for is core/vocabulary.h; what storage and lease stores can do are the methods of
struct hadb_storage_ops and struct hadb_lease_ops. All three are compared with the lists below, so whoever
adds a method or an action that changes something has to say here under which condition it does.
usage: check-conditional.py [--self-test] [ROOT]
"""
import re
import sys

sys.dont_write_bytecode = True
import lintlib  # noqa: E402

METHODS = {
    ("include/hadb/storage.h", "hadb_storage_ops"): {
        "get", "get_range", "head", "list", "caps", "close",
        "fd", "drive", "usage",
        "submit",       # one of the methods here, under its condition
        "create",       # only if absent
        "replace",      # only over the expected tag
        "delete_many",  # only what a manifest has condemned (4.7); seals never
    },
    ("include/hadb/lease.h", "hadb_lease_ops"): {
        "read", "watch", "close",
        "write_if_match",  # only over the expected tag
    },
}
# Actions that reach storage; every other one must not have a name that sounds like it.
VOCABULARY = "core/vocabulary.h"
ACTIONS = {"CREATE", "CAS_MANIFEST", "DELETE", "UPLOAD"}  # UPLOAD: under a fresh name, by create
CHANGES = re.compile(r"PUT|CREATE|CAS|DELETE|UPLOAD|WRITE|REPLACE|REMOVE|OVERWRITE|TRUNCATE|RENAME")


def check(root):
    problems = []
    for (path, table), known in METHODS.items():
        text = lintlib.without_comments(lintlib.read(root, path))
        body = re.search(r"struct " + table + r" \{(.*?)\n\};", text, re.S)
        found = set(re.findall(r"\(\*(\w+)\)\s*\(", body.group(1))) if body else set()
        problems += [f"{path}: {table}.{name}: under which condition does it write? (I9)"
                     for name in sorted(found - known)]
        problems += [f"{path}: {table}.{name} is gone: take it off the list"
                     for name in sorted(known - found)]
    text = lintlib.without_comments(lintlib.read(root, VOCABULARY))
    actions = set(re.findall(r"\bHADB_ACT_(\w+)", text))
    changing = {a for a in actions if CHANGES.search(a)}
    problems += [f"{VOCABULARY}: HADB_ACT_{name}: under which condition does it write? (I9)"
                 for name in sorted(changing - ACTIONS)]
    problems += [f"{VOCABULARY}: HADB_ACT_{name} is gone: take it off the list"
                 for name in sorted(ACTIONS - actions)]
    return problems, len(METHODS) + len(actions)


def self_test():
    def table(name, methods):
        return f"struct {name} {{\n" + "".join(f"    int (*{m})(void *);\n" for m in methods) + "};\n"

    def problems(more="", lease_more="", action_more=""):
        files = {}
        for (path, name), known in METHODS.items():
            extra = more if "storage" in name else lease_more
            files[path] = table(name, sorted(known) + [m for m in [extra] if m])
        acts = sorted(ACTIONS) + ["GET"] + [a for a in [action_more] if a]
        files[VOCABULARY] = "enum a {" + ", ".join("HADB_ACT_" + a for a in acts) + "};\n"
        with lintlib.tree(files) as root:
            return check(root)[0]

    lintlib.self_test("check-conditional", [
        ("as it is", 0, "", problems()),
        ("a plain put", 1, "put", problems(more="put")),
        ("a lease that can be deleted", 1, "delete", problems(lease_more="delete")),
        ("a machine that overwrites", 1, "OVERWRITE_SLOT", problems(action_more="OVERWRITE_SLOT")),
    ])


if __name__ == "__main__":
    args = [a for a in sys.argv[1:] if a != "--self-test"]
    if "--self-test" in sys.argv:
        self_test()
    lintlib.finish("check-conditional", *check(args[0] if args else "."))
