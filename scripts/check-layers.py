#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The include graph follows the layers: nobody includes a higher layer or a sibling.

usage: check-layers.py [--self-test] [ROOT]
"""
import os
import re
import sys

sys.dont_write_bytecode = True
import lintlib  # noqa: E402

LAYER = {"hadb": 0, "base": 1, "lease": 2, "storage": 2, "changeset": 2, "engines": 2,
         "core": 3, "replicators": 3, "node": 4, "server": 5}
PUBLIC_ONLY = {"cli", "examples"}          # see the library as its users do
ANYTHING = {"tests", "sim", "fuzz", "bench"}  # look inside on purpose
PUBLIC_SYSTEM = {"stdint.h", "stddef.h", "stdbool.h"}
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(["<])([^">]+)[">]', re.M)


def home(path):
    """The folder a file counts as: include/hadb/x.h is "hadb"."""
    parts = path.split("/")
    return parts[1] if parts[0] == "include" and len(parts) > 2 else parts[0]


def target_of(root, name):
    """The file a root-relative name means, or None."""
    for path in ("include/" + name, name):
        if os.path.isfile(os.path.join(root, path)):
            return path
    return None


def check_include(root, path, quote, name):
    """Why this include is wrong, or None."""
    here = home(path)
    if {".", "..", ""} & set(name.split("/")):
        return f'"{name}": write the path from the root'
    target = target_of(root, name)
    if quote == "<" and (not target or home(target) != "hadb"):
        if target and name.split("/")[0] in LAYER:
            return f"<{name}> is our own: write it in quotes"
        if here == "hadb" and name not in PUBLIC_SYSTEM:
            return f"<{name}>: a public header includes only {', '.join(sorted(PUBLIC_SYSTEM))}"
        return None
    if not target:
        return f'"{name}" does not exist: includes are relative to the root (or to include/)'
    there = home(target)
    if "_private" in os.path.basename(name) and here not in ANYTHING:
        if here != there:
            return f'"{name}" is private to {there}/'
    if here in ANYTHING or here == there:
        return None
    if here in PUBLIC_ONLY:
        return None if there == "hadb" else f'"{name}": {here}/ uses public headers only'
    if here not in LAYER:
        return f"{here}/ has no layer: add it to check-layers.py and DESIGN"
    if there not in LAYER:
        return f'"{name}": {there}/ is no part of the library'
    if LAYER[there] > LAYER[here]:
        return f'"{name}": {here}/ (layer {LAYER[here]}) includes {there}/ (layer {LAYER[there]})'
    if LAYER[there] == LAYER[here]:
        return f'"{name}": {here}/ includes its sibling {there}/'
    return None


def check(root):
    problems = []
    paths = lintlib.sources(root)
    for path in paths:
        text = lintlib.without_comments(lintlib.read(root, path))
        for match in INCLUDE.finditer(text):
            why = check_include(root, path, match.group(1), match.group(2))
            if why:
                problems.append(f"{path}:{text.count(chr(10), 0, match.start()) + 1}: {why}")
    return problems, len(paths)


def self_test():
    base = {"include/hadb/types.h": "#include <stdint.h>\n", "base/buf.h": "", "node/node.h": "",
            "storage/storage.h": "", "lease/lease_private.h": "", "core/core.h": "",
            "engines/kv/kv_private.h": "", "cli/cli.h": "", "tests/support/support.h": ""}

    def problems(path, text):
        with lintlib.tree({**base, path: text}) as root:
            return check(root)[0]

    lintlib.self_test("check-layers", [
        ("a lower layer may be included", 0, "",
         problems("node/a.c", '#include "base/buf.h"\n#include "core/core.h"\n')),
        ("a higher layer", 1, "(layer 4)", problems("base/a.c", '#include "node/node.h"\n')),
        ("a higher layer with odd spacing", 1, "(layer 4)",
         problems("base/a.c", '  #  include   "node/node.h"\n')),
        ("a sibling", 1, "sibling", problems("lease/a.c", '#include "storage/storage.h"\n')),
        ("a name that is not relative to the root", 1, "does not exist",
         problems("base/a.c", '#include "buf.h"\n')),
        ("a way up", 1, "from the root", problems("base/a.c", '#include "../core/core.h"\n')),
        ("a way on the spot", 1, "from the root", problems("base/a.c", '#include "./buf.h"\n')),
        ("a private header from elsewhere", 1, "private",
         problems("node/a.c", '#include "lease/lease_private.h"\n')),
        ("a private header at home", 0, "",
         problems("engines/kv/a.c", '#include "engines/kv/kv_private.h"\n')),
        ("a test may look inside", 0, "",
         problems("tests/unit/a.c", '#include "lease/lease_private.h"\n')),
        ("cli sees public headers only", 1, "public headers only",
         problems("cli/a.c", '#include "hadb/types.h"\n#include "cli/cli.h"\n'
                  '#include "base/buf.h"\n')),
        ("examples may write <hadb/...>", 0, "", problems("examples/a.c",
                                                          "#include <hadb/types.h>\n")),
        ("our own header in angle brackets", 1, "quotes",
         problems("node/a.c", "#include <base/buf.h>\n")),
        ("the library does not use test helpers", 1, "no part",
         problems("base/a.c", '#include "tests/support/support.h"\n')),
        ("a public header with foreign types", 1, "public header",
         problems("include/hadb/a.h", "#include <uv.h>\n#include <stddef.h>\n")),
        ("a public header that includes the inside", 1, "layer 1",
         problems("include/hadb/a.h", '#include "base/buf.h"\n')),
        ("a comment is no include", 0, "", problems("base/a.c", '/*\n#include "node/node.h"\n*/\n')),
    ])


if __name__ == "__main__":
    args = [a for a in sys.argv[1:] if a != "--self-test"]
    if "--self-test" in sys.argv:
        self_test()
    lintlib.finish("check-layers", *check(args[0] if args else "."))
