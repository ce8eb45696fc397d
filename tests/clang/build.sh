#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The second build: by clang 19, with the address and undefined behaviour sanitizers; unit tests and fuzz targets.
cd "$(dirname "$(readlink -f "$0")")/../.." || exit 1
if ! clang++-19 -fsanitize=address,undefined -x c++ - -o /dev/null <<<'int main() {}' 2>/dev/null; then
    echo 'skipped: clang++-19 or its sanitizers are missing (tools/test installs them)'
    exit 77
fi
exec nice -n 5 tools/dev build clang --target unit_tests fuzz_targets --parallel 1
