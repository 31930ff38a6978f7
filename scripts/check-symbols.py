#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What libhadb.so exports is exactly include/libhadb.sym, is declared HADB_API, and begins with hadb_.

usage: check-symbols.py [--update] LIBRARY [ROOT] | --self-test
"""
import os
import re
import subprocess
import sys

sys.dont_write_bytecode = True
import lintlib  # noqa: E402

LIST = "include/libhadb.sym"
# A sanitizer build adds its own.
FOREIGN = re.compile(r"^(__(asan|tsan|ubsan|odr_asan|sanitizer|lsan)|_init$|_fini$|asan\.)")


def exported(library):
    out = subprocess.run(["nm", "-D", "--defined-only", "--format=posix", library], check=True,
                         capture_output=True, text=True).stdout
    names = {line.split()[0].split("@")[0] for line in out.splitlines() if line.strip()}
    return {n for n in names if not FOREIGN.match(n)}


def listed(root):
    path = os.path.join(root, LIST)
    if not os.path.exists(path):
        return set()
    lines = lintlib.read(root, LIST).splitlines()
    return {line.strip() for line in lines if line.strip() and not line.startswith("#")}


def declared(root):
    names = set()
    for path in lintlib.sources(root, (".h",), ["include"]):
        text = lintlib.without_comments(lintlib.read(root, path))
        for declaration in re.findall(r"^HADB_API\b([^;{]*);", text, re.M):
            match = re.search(r"(\w+)\s*\(", declaration)
            names.add(match.group(1) if match else declaration.split()[-1])
    return names


def compare(names, sym, header):
    problems = [f"{n}: exported, but does not begin with hadb_" for n in sorted(names)
                if not n.startswith("hadb_") or n.startswith("hadb__")]
    problems += [f"{n}: exported, but not in {LIST} (--update adds it)"
                 for n in sorted(names - sym)]
    problems += [f"{n}: in {LIST}, but not exported: an ABI break" for n in sorted(sym - names)]
    problems += [f"{n}: exported, but no public header declares it" for n in sorted(names - header)]
    problems += [f"{n}: declared HADB_API, but not exported" for n in sorted(header - names)]
    return problems


def update(root, names):
    with open(os.path.join(root, LIST), "w", encoding="utf-8") as f:
        f.write("# SPDX-License-Identifier: Apache-2.0\n"
                "# What libhadb.so exports. Written by scripts/check-symbols.py --update.\n")
        f.writelines(name + "\n" for name in sorted(names))


def self_test():
    one = {"hadb_a"}
    with lintlib.tree({"include/hadb/a.h": "HADB_API int hadb_a(int (*f)(void));\n"
                       "/* HADB_API int hadb_c(void); */\nHADB_API const char *\nhadb_b(void);\n",
                       LIST: "# comment\nhadb_a\n\nhadb_b\n"}) as root:
        parsed = [] if declared(root) == {"hadb_a", "hadb_b"} else [str(declared(root))]
        parsed += [] if listed(root) == {"hadb_a", "hadb_b"} else [str(listed(root))]
        update(root, {"hadb_z", "hadb_y"})
        rewritten = [] if listed(root) == {"hadb_y", "hadb_z"} else [str(listed(root))]
    with lintlib.tree({"a.c": "int hadb_seen(void) { return 0; }\nint stray;\n"
                       "static int unseen(void) { return 0; }\nint (*hadb_p)(void) = unseen;\n"
                       "__attribute__((visibility(\"hidden\"))) int hadb_hidden;\n"}) as root:
        library = os.path.join(root, "a.so")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, os.path.join(root, "a.c")],
                       check=True)
        found = exported(library)
        seen = [] if found == {"hadb_seen", "stray", "hadb_p"} else [str(found)]
    lintlib.self_test("check-symbols", [
        ("all three agree", 0, "", compare(one, one, one)),
        ("a symbol of another name", 3, "memcpy2", compare(one | {"memcpy2"}, one, one)),
        ("an internal symbol", 1, "begin with hadb_",
         compare({"hadb__x"}, {"hadb__x"}, {"hadb__x"})),
        ("a new one", 1, "--update", compare(one | {"hadb_b"}, one, one | {"hadb_b"})),
        ("one that went away", 2, "hadb_a", compare(set(), one, one)),
        ("one without declaration", 1, "declares", compare(one, one, set())),
        ("headers and list are read", 0, "", parsed),
        ("the list is written", 0, "", rewritten),
        ("a real library is read", 0, "", seen),
    ])


if __name__ == "__main__":
    args = [a for a in sys.argv[1:] if not a.startswith("--")]
    if "--self-test" in sys.argv:
        self_test()
    if not args:
        sys.exit(__doc__)
    top = args[1] if len(args) > 1 else "."
    symbols = exported(args[0])
    if "--update" in sys.argv:
        update(top, symbols)
    lintlib.finish("check-symbols", compare(symbols, listed(top), declared(top)), len(symbols))
