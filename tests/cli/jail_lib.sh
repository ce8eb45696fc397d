# SPDX-License-Identifier: Apache-2.0
# Sourced by the tests of inox jail: jails of Firecracker's kind, with a small program that says what it finds there.
. "$source/tests/cli/lib.sh"
export PATH=$PATH:/usr/sbin:/sbin
[ "$(id -u)" = 0 ] || { echo "skipped: a jail with a user of its own needs root"; exit 77; }
unshare -m true 2>/dev/null || { echo "skipped: no mount namespace can be made here"; exit 77; }

probe=$scratch/firecracker base=$scratch/jails
gcc -static -O1 -Wall -Werror -o "$probe" "$source/tests/cli/jail_probe.c" || { echo "no probe"; exit 1; }
mkdir "$base"
ln -s "$inox" "$scratch/jailer"
count=0
trap 'clean; rm -rf "$scratch"' EXIT

# What a failed test left running or mounted
clean() {
    local pid
    for pid in "${started[@]}"; do kill -KILL "$pid" 2>/dev/null; done
    ! mountpoint -q "$scratch/ns" || umount "$scratch/ns"
}
started=()

# A jail of its own for each call: $id, and $root, where it is
new_jail() {
    count=$((count + 1)) id=vm-$count
    root=$base/firecracker/$id/root
}
# jailed OPTION...: as a caller of the jailer would; the rest of the options is usual
jailed() {
    "$scratch/jailer" --id "$id" --exec-file "$probe" --uid 3001 --gid 3002 --chroot-base-dir "$base" "$@"
}
# one KEY: its value in the last output
one() { sed -n "s|^$1 ||p" <<<"$out"; }
# same WHAT WANTED GOT
same() {
    checks=$((checks + 1))
    [ "$2" = "$3" ] || { printf 'FAILED: %s is not\n  %s\nbut\n  %s\n' "$1" "$2" "$3"; failures=$((failures + 1)); }
}
matches() {
    checks=$((checks + 1))
    [[ $3 =~ $2 ]] || { printf 'FAILED: %s does not match %s: %s\n' "$1" "$2" "$3"; failures=$((failures + 1)); }
}
# refuses TEXT OPTION...: status 1, and this text
refuses() {
    local text=$1
    shift
    run "$@"
    checks=$((checks + 1))
    [ "$code" = 1 ] && grep -q -F -- "$text" <<<"$err" || fail "$* should end with 1 and say '$text'"
}
# stays OPTION...: a jail that lasts; $pid is the program's
stays() {
    new_jail
    "$scratch/jailer" --id "$id" --exec-file "$probe" --uid 3001 --gid 3002 --chroot-base-dir "$base" "$@" -- stay \
        >"$scratch/out" 2>"$scratch/stderr" &
    child=$!
    started+=("$child")
    eventually grep -q ready "$root/report" || fail "the program did not start: $(cat "$scratch/stderr")"
    pid=$(cat "$root/firecracker.pid")
    started+=("$pid")
}
name_of() { readlink "/proc/$pid/ns/$1"; }
own() { [ "$(name_of "$1")" = "$(readlink "/proc/self/ns/$1")" ] && echo no || echo yes; }

# until_no COMMAND...: a check that something is gone soon
until_no() {
    checks=$((checks + 1))
    ! "$@" >/dev/null 2>&1 || eventually not "$@" || fail "'$*' is still so"
}
not() { ! "$@"; }
