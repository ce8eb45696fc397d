#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Format, include rule, shell scripts; self-contained headers and clang-tidy of what changed.
cd "$(dirname "$(readlink -f "$0")")/../.." || exit 1
git rev-parse -q --git-dir >/dev/null 2>&1 || { echo 'skipped: this is not a git work tree'; exit 77; }
for tool in clang-format clang-tidy-19 shellcheck; do
    command -v $tool >/dev/null || { echo "skipped: $tool is missing (tools/test installs it)"; exit 77; }
done
exec tools/dev lint
