#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""core/ is pure: its object code calls nothing but itself, memcpy and friends, and the assertion.

No clock, no lock, no allocation, no I/O can hide in the state machines then.
usage: check-core-pure.py LIBRARY | --self-test
"""
import os
import re
import subprocess
import sys

sys.dont_write_bytecode = True
import lintlib  # noqa: E402

ALLOWED = {"memcpy", "memset", "memcmp", "memmove", "hadb_assert_failed",
           "_GLOBAL_OFFSET_TABLE_", "__stack_chk_fail"}
# A sanitizer or coverage build calls its own runtime.
FOREIGN = re.compile(r"^__(asan|tsan|ubsan|sanitizer|lsan|gcov|llvm)_")
# State that is not const would be shared between machines. Const tables of pointers are in
# .data.rel.ro, which nm calls "d" as well: the section tells.
WRITABLE = re.compile(r"^(\.data(?!\.rel\.ro)|\.bss|\.tdata|\.tbss|\*COM\*)")


def symbols(library):
    """(name, class, section) of each symbol."""
    out = subprocess.run(["nm", "--format=sysv", library], check=True, capture_output=True,
                         text=True).stdout
    rows = [[column.strip() for column in line.split("|")] for line in out.splitlines()]
    return [(r[0], r[2], r[6]) for r in rows if len(r) == 7 and r[0] != "Name"]


def check(rows):
    own = {name for name, kind, _ in rows if kind not in ("U", "w", "v")}
    calls = {name for name, kind, _ in rows if kind in ("U", "w", "v")}
    foreign = {n for n in calls - own - ALLOWED if not FOREIGN.match(n)}
    problems = [f"core/ calls {n}" for n in sorted(foreign)]
    if not any(FOREIGN.match(n) for n in calls):
        problems += [f"core/ has writable state: {n}" for n, _, section in rows
                     if WRITABLE.match(section)]
    return problems, len(own)


def compiled(text):
    with lintlib.tree({"a.c": text}) as root:
        target = os.path.join(root, "a.o")
        subprocess.run(["cc", "-O0", "-fPIC", "-c", "-o", target, os.path.join(root, "a.c")], check=True)
        return check(symbols(target))[0]


def self_test():
    lintlib.self_test("check-core-pure", [
        ("a pure function", 0, "",
         compiled("#include <string.h>\nint g(void);\nint g(void) { return 1; }\n"
                  "int f(void *a, void *b) { memmove(a, b, 9); return g(); }\n"
                  "static const int t[] = {1};\nint h(void) { return t[0]; }\n")),
        ("a const table of pointers", 0, "",
         compiled('static const char *const t[] = {"a", "b"};\n'
                  'const char *f(int i) { return t[i]; }\n')),
        ("an allocation", 1, "calls malloc",
         compiled("#include <stdlib.h>\nvoid *f(void) { return malloc(1); }\n")),
        ("a clock", 1, "calls time",
         compiled("#include <time.h>\nlong f(void) { return time(0); }\n")),
        ("a function of another layer", 1, "calls hadb_log",
         compiled("void hadb_log(void);\nvoid f(void) { hadb_log(); }\n")),
        ("a global", 1, "writable state", compiled("int n = 1;\n")),
        ("a thread-local", 1, "writable state", compiled("_Thread_local int n;\n")),
        ("a counter that outlives the call", 1, "writable state",
         compiled("static int n;\nint f(void) { return n++; }\n")),
    ])


if __name__ == "__main__":
    if "--self-test" in sys.argv:
        self_test()
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    lintlib.finish("check-core-pure", *check(symbols(sys.argv[1])))
