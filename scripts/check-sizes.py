#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Files and functions stay small: .c <= 800 lines, .h <= 300, a function <= 120 (over 70: a note).

A function is what stands between a "{" and the next "}" that are alone at the start of a line, as
clang-format writes it.
usage: check-sizes.py [--self-test] [ROOT]
"""
import re
import sys

sys.dont_write_bytecode = True
import lintlib  # noqa: E402

FILE_LINES_MAX = {".c": 800, ".h": 300}
FUNCTION_LINES_MAX = 120
FUNCTION_LINES_NOTE = 70


def functions(text):
    """(line, name, number of lines) of each function."""
    lines = text.splitlines()
    start = None
    for i, line in enumerate(lines):
        if line == "{":
            start = i
        elif line == "}" and start is not None:
            head = start - 1
            while head > 0 and (lines[head].startswith((" ", "\t")) or "(" not in lines[head]):
                head -= 1
            match = re.search(r"(\w+)\s*\(", lines[head])
            yield start + 1, match.group(1) if match else "?", i - start + 1
            start = None


def check(root):
    problems, notes = [], []
    paths = lintlib.sources(root)
    for path in paths:
        text = lintlib.read(root, path)
        count = text.count("\n")
        limit = FILE_LINES_MAX[path[-2:]]
        if count > limit:
            problems.append(f"{path}: {count} lines, at most {limit}")
        for line, name, length in functions(text):
            where = f"{path}:{line}: {name} has {length} lines"
            if length > FUNCTION_LINES_MAX:
                problems.append(f"{where}, at most {FUNCTION_LINES_MAX}")
            elif length > FUNCTION_LINES_NOTE:
                notes.append(f"note: {where}, aim for {FUNCTION_LINES_NOTE}")
    return problems, notes, len(paths)


def self_test():
    def function(name, body):
        return f"static int {name}(int a,\n           int b)\n{{\n" + "    a++;\n" * body + "}\n"

    def result(path, text, which=0):
        with lintlib.tree({path: text}) as root:
            return check(root)[which]

    lintlib.self_test("check-sizes", [
        ("a source at the limit", 0, "", result("base/a.c", "\n" * 800)),
        ("a source over it", 1, "801 lines", result("base/a.c", "\n" * 801)),
        ("a header at the limit", 0, "", result("base/a.h", "\n" * 300)),
        ("a header over it", 1, "301 lines", result("include/hadb/a.h", "\n" * 301)),
        ("a function at the limit", 0, "", result("node/a.c", function("f", 118))),
        ("a function over it", 1, "long_one has 121",
         result("node/a.c", function("ok", 5) + function("long_one", 119))),
        ("a note", 1, "note: node/a.c:3: f has 71", result("node/a.c", function("f", 69), 1)),
        ("no note", 0, "", result("node/a.c", function("f", 68), 1)),
        ("a table is no function", 0, "",
         result("node/a.c", "static int t[] = {\n" + "    1,\n" * 200 + "};\n")),
    ])


if __name__ == "__main__":
    args = [a for a in sys.argv[1:] if a != "--self-test"]
    if "--self-test" in sys.argv:
        self_test()
    wrong, hints, total = check(args[0] if args else ".")
    for hint in hints:
        print(hint)
    lintlib.finish("check-sizes", wrong, total)
