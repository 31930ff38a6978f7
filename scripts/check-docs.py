#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every HADB_API function has a doc block that names Returns, Errors and Threads; codes exist.

A block may cover a group of declarations that follow one another without a blank line.
usage: check-docs.py [--self-test] [ROOT]
"""
import re
import sys

sys.dont_write_bytecode = True
import lintlib  # noqa: E402

WORDS = ("Returns", "Errors", "Threads")
TOKEN = re.compile(r"(?P<doc>/\*\*.*?\*/)|(?P<comment>/\*.*?\*/)|(?P<api>^HADB_API\b[^;{]*;)"
                   r"|(?P<blank>\n[ \t]*\n)", re.S | re.M)
CODE = re.compile(r"\bHADB_E[A-Z][A-Z_]*\b")


def declared_names(texts):
    """All HADB_ names that a public header defines, the error codes included."""
    names = set()
    for text in texts:
        names |= set(re.findall(r"#[ \t]*define[ \t]+(HADB_\w+)", text))
        names |= {"HADB_" + n for n in re.findall(r"\bX\((\w+),[ \t]*-\d+", text)}
        code = lintlib.without_comments(text)
        for body in re.findall(r"\benum\b[^;{]*\{([^}]*)\}", code):
            names |= set(re.findall(r"\bHADB_\w+", body))
    return names


def function_name(declaration):
    match = re.search(r"(\w+)\s*\(", declaration)
    return match.group(1) if match else None


def check_header(path, text, names):
    problems = []
    functions = 0
    block = None      # the doc block that covers what comes next
    for match in TOKEN.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        comment = match.group("doc") or match.group("comment") or ""
        for code in CODE.findall(comment):
            if code not in names:
                problems.append(f"{path}:{line}: {code} is no code of hadb/error.h")
        if match.group("doc"):
            block = comment
        elif match.group("blank"):
            block = None
        elif match.group("api"):
            name = function_name(match.group("api"))
            if not name:
                continue
            functions += 1
            if block is None:
                problems.append(f"{path}:{line}: {name} has no doc block")
                continue
            missing = [w for w in WORDS if not re.search(rf"\b{w}\b", block)]
            if missing:
                problems.append(f"{path}:{line}: {name}: doc block lacks {', '.join(missing)}")
    return problems, functions


def check(root):
    paths = lintlib.sources(root, (".h",), ["include"])
    texts = {path: lintlib.read(root, path) for path in paths}
    names = declared_names(texts.values())
    problems, functions = [], 0
    for path in paths:
        more, count = check_header(path, texts[path], names)
        problems += more
        functions += count
    return problems, functions


def self_test():
    error = {"include/hadb/error.h": '#define C(X) X(EIO, -3, "io", true)\n#define HADB_END 4\n'
             "enum hadb_x { HADB_EVENT_A, HADB_EVENT_B };\n"}
    good = "/**\n * Does it.\n *\n * Returns 0\n * Errors HADB_EIO\n * Threads any\n */\n"

    def problems(text):
        with lintlib.tree({**error, "include/hadb/a.h": text}) as root:
            return check(root)[0]

    lintlib.self_test("check-docs", [
        ("a complete block", 0, "", problems(good + "HADB_API int f(void);\n")),
        ("a block over a group", 0, "",
         problems(good + "HADB_API int f(void);\nHADB_API int g(int a,\n   int b);\n")),
        ("no block", 1, "no doc block", problems("HADB_API int f(void);\n")),
        ("a plain comment is no block", 1, "no doc block",
         problems("/* Returns Errors Threads */\nHADB_API int f(void);\n")),
        ("a blank line ends the group", 1, "g has no doc block",
         problems(good + "HADB_API int f(void);\n\nHADB_API int g(void);\n")),
        ("a missing word", 1, "lacks Threads",
         problems(good.replace("Threads", "Thread") + "HADB_API int f(void);\n")),
        ("all words missing", 1, "Returns, Errors, Threads",
         problems("/** Does it. */\nHADB_API void *f(void);\n")),
        ("a code that does not exist", 1, "HADB_EOOPS",
         problems(good.replace("HADB_EIO", "HADB_EOOPS") + "HADB_API int f(void);\n")),
        ("a code that does not exist, in any comment", 1, "HADB_EOOPS",
         problems("/* HADB_EOOPS */\n" + good + "HADB_API int f(void);\n")),
        ("names that only begin like codes", 0, "",
         problems(good.replace("HADB_EIO", "HADB_END, HADB_EVENT_B")
                  + "HADB_API int f(void);\n")),
    ])


if __name__ == "__main__":
    args = [a for a in sys.argv[1:] if a != "--self-test"]
    if "--self-test" in sys.argv:
        self_test()
    lintlib.finish("check-docs", *check(args[0] if args else "."))
