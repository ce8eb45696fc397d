#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tools/dev fetches what is asked for, and no more.
set -uo pipefail
root=$(readlink -f "$(dirname "$(readlink -f "$0")")/../..")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
export INOX_CACHE=$work

# default_kernels: what `tools/dev initramfs` takes modules of
default_kernels() {
    bash -c '. "$1/tools/lib/common.sh"; . "$1/tools/lib/kernels.sh"; cached_kernels' bash "$root" | xargs
}
check() { if [ "$2" = "$3" ]; then echo "PASS $1"; else echo "FAIL $1: '$3' instead of '$2'"; failed=1; fi; }

check "an initramfs without a name is for one kernel" 6.1-cloud "$(default_kernels)"
for name in 6.12 6.1; do
    dir=$(bash -c '. "$1/tools/lib/common.sh"; . "$1/tools/lib/kernels.sh"; kernel_dir "$2"' bash "$root" $name)
    mkdir -p "$dir"
    touch "$dir/SHA256SUMS"
done
check "or for those that are there" "6.1 6.12" "$(default_kernels)"

# A package that dpkg has never met is missing, too, as on a new machine
check "what is missing is installed" "inox-unheard-of" "$(bash -c 'set -euo pipefail; . "$1/tools/lib/common.sh"
    apt_install() { echo "$@" >"$INOX_CACHE/installed"; }
    need bash inox-unheard-of' bash "$root" 2>/dev/null; cat "$work/installed")"

# refuses TEXT PROGRAM ARGUMENT...: it ends with 1 and says TEXT and a next step, and prints nothing else
refuses() {
    local text=$1 printed errors
    shift
    printed=$("$root/tools/$1" "${@:2}" 2>"$work/errors" </dev/null)
    check "$* is refused" "1 " "$? $printed"
    errors=$(cat "$work/errors")
    [[ $errors == *"$text"*"  next: "* ]] || { echo "FAIL $* says '$errors' and not '$text'"; failed=1; }
}
refuses "fmt has no argument 'x'" dev fmt x
refuses "image has no argument 'x'" dev image x
refuses "kernel has no argument '6.1'" dev kernel 6.12 6.1
refuses "vmlinux needs the name of a kernel" dev vmlinux
refuses "fuzz config: 'soon' is not a number" dev fuzz config soon
refuses "fuzz-table: 'soon' is not a number" dev fuzz-table soon
refuses "no fuzz target is called 'nothing'" dev fuzz-table 1 nothing
refuses "stress: '1h' is not a number" dev stress 1h
refuses "hostile: 'soon' is not a number" dev hostile soon
refuses "no option but --json" dev bench api --jsno
refuses "it takes no arguments" quickstart --help
INOX_CACHE=/proc/nope refuses "the cache /proc/nope cannot be written" dev kernel 6.12
INOX_CACHE=/proc/nope refuses "the cache /proc/nope cannot be written" dev initramfs 6.12

# Each fuzz target says whose bytes it takes, and what its parser is
parser_of() { bash -c '. "$1/tools/lib/fuzz_table.sh"; parser_of "$2"' bash "$root" "$1"; }
for target in "$root"/tests/fuzz/*_fuzz.cpp; do
    name=$(basename "$target" _fuzz.cpp)
    grep -q "^|.*\`$name\`.*|" "$root/tests/fuzz/README.md" || { echo "FAIL README.md has no $name"; failed=1; }
    check "the parser of $name is there" "" "$(root=$root parser_of "$name" | while read -r file; do
        [ -e "$root/$file" ] || echo "$file"
    done)"
    check "and is not empty" yes "$([ -z "$(root=$root parser_of "$name")" ] || echo yes)"
done
exit $failed
