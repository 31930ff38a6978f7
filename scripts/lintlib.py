# SPDX-License-Identifier: Apache-2.0
"""What the check-*.py scripts share: finding sources, stripping comments, reporting, self-tests."""
import os
import re
import sys
import tempfile

# Folders of DESIGN.md section 3 that hold C code.
FOLDERS = ["include", "base", "lease", "storage", "changeset", "engines", "core", "replicators",
           "node", "server", "cli", "bench", "examples", "sim", "tests", "fuzz"]


def sources(root, endings=(".c", ".h"), folders=None):
    """Paths below root, relative and sorted."""
    found = []
    for folder in folders or FOLDERS:
        for at, dirs, files in os.walk(os.path.join(root, folder)):
            dirs[:] = [d for d in dirs if not d.startswith(".")]
            found += [os.path.relpath(os.path.join(at, f), root) for f in files
                      if f.endswith(endings) and not f.startswith(".")]
    return sorted(found)


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as f:
        return f.read()


def without_comments(text, strings=False):
    """The text with comments (and, if asked, the insides of string literals) blanked, lines kept."""
    def blank(match):
        s = match.group(0)
        if s.startswith("/"):
            return re.sub(r"[^\n]", " ", s)
        return s[0] + " " * (len(s) - 2) + s[-1] if strings else s
    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text,
                  flags=re.S)


def finish(name, problems, checked):
    """Prints the problems and ends the program: 0 only if there are none and something was checked."""
    for problem in problems:
        print(problem)
    if not checked:
        print(f"{name}: nothing to check: wrong root of the sources, or an empty library?")
        sys.exit(1)
    print(f"{name}: {checked} checked, {len(problems)} problem(s)")
    sys.exit(1 if problems else 0)


def tree(files):
    """A temporary folder with the given {path: text}; a context manager."""
    folder = tempfile.TemporaryDirectory(prefix="hadb-lint-")
    for path, text in files.items():
        full = os.path.join(folder.name, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w", encoding="utf-8") as f:
            f.write(text)
    return folder


def self_test(name, cases):
    """cases: (what, expected number of problems, a word that must occur, list of problems)."""
    failed = 0
    for what, expected, word, problems in cases:
        good = len(problems) == expected and all(word in p for p in problems)
        failed += not good
        print(f"{'ok  ' if good else 'FAIL'} {what}: {problems if not good else expected}")
    print(f"{name}: self-test of {len(cases)} cases, {failed} failed")
    sys.exit(1 if failed or not cases else 0)
