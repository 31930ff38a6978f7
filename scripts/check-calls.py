#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The library takes clock, random numbers, files, memory and output from base/ and nowhere else.

Calls below are refused in the library's folders outside base/. Where a foreign library leaves no
choice (memory that it allocated, say), the line carries a comment that begins with "foreign:".
usage: check-calls.py [--self-test] [ROOT]
"""
import re
import sys

sys.dont_write_bytecode = True
import lintlib  # noqa: E402

FOLDERS = ["lease", "storage", "changeset", "engines", "core", "replicators", "node", "server"]
REFUSED = {
    "a clock": "time gettimeofday clock_gettime clock localtime uv_hrtime uv_now ftime",
    "a random source": "rand srand random srandom drand48 getrandom arc4random rand_r",
    "memory outside base/alloc.h": "malloc calloc realloc free strdup strndup asprintf vasprintf",
    "a file outside base/fs.h": "fopen fdopen open openat rename unlink rmdir mkdir fsync fdatasync "
                                "opendir mkstemp ftruncate truncate",
    "output": "printf puts putchar fprintf vprintf vfprintf perror syslog",
    "the environment": "getenv secure_getenv setenv putenv",
    "an unbounded copy": "strcpy strcat sprintf vsprintf gets scanf sscanf strtok",
    "the host's process": "exit _exit abort system popen fork signal sigaction atexit",
    "a hidden wait": "sleep usleep nanosleep clock_nanosleep",
}
WHY = {name: why for why, names in REFUSED.items() for name in names.split()}
# Not behind "->", "." or a letter: a method called open is none of ours.
CALL = re.compile(r"(?<![\w.>])(" + "|".join(WHY) + r")\s*\(")


def check(root):
    problems = []
    paths = lintlib.sources(root, folders=FOLDERS)
    for path in paths:
        text = lintlib.read(root, path)
        raw = text.splitlines()
        for number, line in enumerate(lintlib.without_comments(text, True).splitlines()):
            for match in CALL.finditer(line):
                if "/* foreign:" not in raw[number] and not line.lstrip().startswith("#"):
                    name = match.group(1)
                    problems.append(f"{path}:{number + 1}: {name}() is {WHY[name]}")
    return problems, len(paths)


def self_test():
    def problems(text, path="node/a.c"):
        with lintlib.tree({path: text, "core/other.c": ""}) as root:
            return check(root)[0]

    lintlib.self_test("check-calls", [
        ("a clock", 1, "clock", problems("int f(void)\n{\n    return time (NULL);\n}\n")),
        ("memory", 2, "alloc.h", problems("p = malloc(1);\nfree(p);\n")),
        ("memory of a foreign library", 0, "", problems("free(p); /* foreign: json_dumps */\n")),
        ("our own allocator", 0, "", problems("p = hadb_malloc(1);\nhadb_free(p);\n")),
        ("a method", 0, "", problems("ops->open(self);\nops.rename(self);\n")),
        ("a comment", 0, "", problems("/* calls time() */\n// free(p)\n")),
        ("a string", 0, "", problems('log("no time() here");\n')),
        ("base may", 0, "", problems("t = time(NULL);\n", "base/a.c")),
        ("a test may", 0, "", problems("t = time(NULL);\n", "tests/a.c")),
    ])


if __name__ == "__main__":
    args = [a for a in sys.argv[1:] if a != "--self-test"]
    if "--self-test" in sys.argv:
        self_test()
    lintlib.finish("check-calls", *check(args[0] if args else "."))
