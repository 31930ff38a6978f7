#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A checker must notice that a safety rule is missing (RULE, may be empty), or that the host is broken on purpose (an
# OPTION). Usage: mutant.sh CHECKER RULE [OPTION...]
set -u
checker=$1
rule=$2
shift 2
out=$("$checker" ${rule:+--off "$rule"} "$@")
code=$?
printf '%s\n' "$out" | tail -n 70
if [ "$code" -ne 1 ]; then
    echo "mutant.sh: $checker --off $rule ended with $code, expected 1 (a violation)" >&2
    exit 1
fi
case $out in
*counterexample*) exit 0 ;;
esac
echo "mutant.sh: $checker --off $rule printed no counterexample" >&2
exit 1
