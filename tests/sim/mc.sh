#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The whole model check: no violation, and enough of the state space seen. Usage: mc.sh CHECKER
set -u
out=$("$1")
code=$?
printf '%s\n' "$out"
[ "$code" -eq 0 ] || exit 1
states=$(printf '%s\n' "$out" | sed -n 's/^[0-9]* configurations, \([0-9]*\) states,.*/\1/p')
if [ "${states:-0}" -lt 5000000 ]; then
    echo "mc.sh: only ${states:-0} states were explored, expected 5000000" >&2
    exit 1
fi
