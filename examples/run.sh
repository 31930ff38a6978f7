#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs an example in a fresh folder and removes the folder.
folder=$(mktemp -d) || exit 1
"$1" "$folder"
result=$?
rm -rf "$folder"
exit $result
