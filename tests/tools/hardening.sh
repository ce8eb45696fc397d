#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# hardening.sh BUILD_FOLDER [PROGRAM]: the program's objects and the program (PROGRAM: a package's, for example) have
# what CMakeLists.txt asks for. It reads what was built, so that an option which is lost on the way shows.
set -uo pipefail
build=$1 program=${2:-$1/inox}
failed=0

# expect WHAT GOT: nothing is wrong when GOT is empty
expect() {
    if [ -z "$2" ]; then echo "PASS $1"; else printf 'FAIL %s:\n%s\n' "$1" "$2"; failed=1; fi
}
# has WHAT PATTERN TEXT
has() {
    if grep -q -E -- "$2" <<<"$3"; then echo "PASS $1"; else
        echo "FAIL $1: no '$2' in: $(head -n 5 <<<"$3")"
        failed=1
    fi
}

# look_at PROGRAM ABOUT
look_at() {
    local headers dynamic
    headers=$(readelf -hlW "$1") dynamic=$(readelf -dW "$1")
    has "$2: position-independent" "Type: +DYN" "$headers"
    has "$2: marked as such" "FLAGS_1.*PIE" "$dynamic"
    has "$2: read-only relocations" GNU_RELRO "$headers"
    has "$2: all of them before the start" "BIND_NOW" "$dynamic"
    has "$2: a stack without execution" "GNU_STACK.* RW +0x" "$headers"
    expect "$2: no segment is writable and executable" "$(awk '$1 == "LOAD" && / RWE /' <<<"$headers")"
    expect "$2: no text relocation" "$(grep TEXTREL <<<"$dynamic")"
}
look_at "$program" "${program##*/}"
[ $# = 1 ] || exit "$failed"

# Of the program and its own libraries
mapfile -t objects < <(cd "$build" && ninja -t inputs inox 2>/dev/null | grep -E '\.cpp\.o$')
[ ${#objects[@]} -gt 100 ] || { echo "FAIL only ${#objects[@]} objects found"; exit 1; }
expect "no object asks for an executable stack" "$(cd "$build" && for object in "${objects[@]}"; do
    readelf -SW "$object" | grep -E '\.note\.GNU-stack.* X' && echo "$object"
done)"
expect "every object has marks of control-flow enforcement" "$(cd "$build" && for object in "${objects[@]}"; do
    readelf -nW "$object" | grep -q 'x86 feature: IBT, SHSTK' || echo "$object"
done)"
flags='-fstack-protector-strong -fstack-clash-protection -fcf-protection=full'
calls=$(cd "$build" && nm "${objects[@]}" | awk '$1 == "U" { print $2 }' | sort -u)
has "objects have stack protectors" '^__stack_chk_fail$' "$calls"
if grep -q -e '^INOX_SANITIZE:STRING=.' -e '^CMAKE_BUILD_TYPE:STRING=Debug' "$build/CMakeCache.txt"; then
    echo "not checked: checked library calls, which a debug build and one with sanitizers do not have"
else
    has "objects have checked library calls" '^__(memcpy|read|vsnprintf|snprintf)_chk$' "$calls"
    flags+=" $(grep -m1 -o -e '-D_FORTIFY_SOURCE=[23]' "$build/build.ninja" || echo -D_FORTIFY_SOURCE)"
fi
expect "every object was compiled with all options" "$(cd "$build" && ninja -t commands inox |
    grep -E ' -c [^ ]+\.cpp$' | while read -r line; do
        for flag in $flags; do
            [[ $line == *" $flag "* ]] || echo "$flag is missing: ${line##* -c }"
        done
    done | sort | uniq)"

# The same objects, with shared libraries
if grep -q '^INOX_STATIC:BOOL=ON' "$build/CMakeCache.txt"; then
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    link=$(cd "$build" && ninja -t commands inox | tail -n 1)
    link=${link/ -static-pie / -pie }
    (cd "$build" && bash -c "${link/ -o inox / -o $scratch/inox }") || failed=1
    has "linked with shared libraries" "NEEDED.*libc.so" "$(readelf -dW "$scratch/inox")"
    look_at "$scratch/inox" "with shared libraries"
fi
exit "$failed"
