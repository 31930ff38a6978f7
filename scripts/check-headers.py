#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Each public header compiles alone and twice, as C11 and as C++, and is installed.

usage: check-headers.py [--self-test] [ROOT] [CC [CXX]]   (default: cc, and c++ if there is one)
"""
import os
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
import lintlib  # noqa: E402

WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wundef", "-Werror", "-fsyntax-only"]


def compile_alone(root, header, command, language):
    source = f'#include "{header}"\n#include "{header}"\nint main(void);\n'
    result = subprocess.run(command + ["-x", language[0], "-std=" + language[1], *WARNINGS, "-I",
                                       os.path.join(root, "include"), "-"],
                            input=source, capture_output=True, text=True, check=False)
    if result.returncode == 0:
        return None
    lines = [line for line in result.stderr.splitlines() if "error" in line]
    return lines[0] if lines else result.stderr.strip()


def check(root, cc, cxx):
    problems = []
    paths = lintlib.sources(root, (".h",), ["include"])
    build = os.path.join(root, "include", "meson.build")
    installed = lintlib.read(root, "include/meson.build") if os.path.exists(build) else ""
    for path in paths:
        header = path[len("include/"):]
        why = compile_alone(root, header, [cc], ("c", "c11"))
        if why:
            problems.append(f"{path}: as C11: {why}")
        why = compile_alone(root, header, [cxx], ("c++", "c++11")) if cxx else None
        if why:
            problems.append(f"{path}: as C++: {why}")
        if f"'{header}'" not in installed:
            problems.append(f"{path}: is not in include/meson.build, so not installed")
    if not cxx:
        print("check-headers: no C++ compiler here: C11 only")
    return problems, len(paths)


def self_test(cc, cxx):
    good = "#ifndef A\n#define A\n#include <stdint.h>\nstruct a { uint8_t b; };\n#endif\n"

    def problems(text, build="'hadb/a.h'"):
        with lintlib.tree({"include/hadb/a.h": text, "include/meson.build": build}) as root:
            return check(root, cc, cxx)[0]

    both = 2 if cxx else 1
    lintlib.self_test("check-headers", [
        ("a good header", 0, "", problems(good)),
        ("one that needs another first", both, "as C",
         problems(good.replace("#include <stdint.h>", ""))),
        ("one without a guard", both, "as C", problems("struct a { int b; };\n")),
        ("one that is no C11", both, "as C", problems("struct a { nonsense };\n")),
        ("one that is no C++", 1 if cxx else 0, "as C++",
         problems(good + "#ifndef B\n#define B\nstruct b { int class; };\n#endif\n")),
        ("one that is not installed", 1, "not installed", problems(good, "'hadb/b.h'")),
    ])


if __name__ == "__main__":
    args = [a for a in sys.argv[1:] if a != "--self-test"]
    c_compiler = args[1] if len(args) > 1 else "cc"
    cxx_compiler = args[2] if len(args) > 2 else shutil.which("c++") or shutil.which("clang++-14")
    if "--self-test" in sys.argv:
        self_test(c_compiler, cxx_compiler)
    lintlib.finish("check-headers", *check(args[0] if args else ".", c_compiler, cxx_compiler))
