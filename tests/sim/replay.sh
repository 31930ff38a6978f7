#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A failing seed is told, shrunk, and can be replayed with the command that was printed. Usage: replay.sh SIMULATOR
set -u
out=$("$1" --seeds 1..20 --off PREFIX_ACK)
line=$(printf '%s\n' "$out" | sed -n 's/^replay: hadb-sim //p' | head -n 1)
story=$(printf '%s\n' "$out" | sed -n 's/^counterexample: seed [0-9]*: //p' | head -n 1)
if [ -z "$line" ] || [ -z "$story" ]; then
    echo "replay.sh: no counterexample or no replay command was printed" >&2
    exit 1
fi
# shellcheck disable=SC2086 -- the words of the printed command
again=$("$1" $line)
code=$?
if [ "$code" -ne 1 ]; then
    echo "replay.sh: the replay ended with $code, expected 1" >&2
    exit 1
fi
case $again in
*"VIOLATION $story"*) exit 0 ;;
esac
echo "replay.sh: the replay did not end with: $story" >&2
exit 1
