#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The checker must notice that a safety rule is missing: usage mutant.sh CHECKER RULE
set -u
out=$("$1" --off "$2")
code=$?
printf '%s\n' "$out" | tail -n 60
if [ "$code" -ne 1 ]; then
    echo "mutant.sh: $1 --off $2 ended with $code, expected 1 (a violation)" >&2
    exit 1
fi
case $out in
*counterexample*) exit 0 ;;
esac
echo "mutant.sh: $1 --off $2 printed no counterexample" >&2
exit 1
