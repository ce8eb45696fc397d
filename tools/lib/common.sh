# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# What every tool shares: places, messages, packages, locks. Sourced, never run.

. "$(dirname "${BASH_SOURCE[0]}")/ends.sh"
shopt -s inherit_errexit # else $(debian_kernel ...) goes on after a failure

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
HOME=${HOME:-$(getent passwd "$(id -u)" | cut -d: -f6)}     # some environments have none
export HOME=${HOME:-/tmp}
cache=${INOX_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/inox}
tool=${0##*/}
started=${EPOCHREALTIME/[.,]/}

# say TEXT: one progress line for people, with the seconds since the tool started
say() {
    local ms=$(((${EPOCHREALTIME/[.,]/} - started) / 1000))
    printf '[%3d.%ds] %s\n' $((ms / 1000)) $((ms / 100 % 10)) "$*" >&2
}

# die TEXT [HINT]: what is wrong, what to do next; the status is $die_status or 1
die() {
    printf '%s: %s\n' "$tool" "$1" >&2
    [ $# -lt 2 ] || printf '  next: %s\n' "$2" >&2
    already_said
    exit "${die_status:-1}"
}

# takes WHAT COUNT ARGUMENT...: WHAT has at most COUNT arguments
takes() {
    [ $(($# - 2)) -le "$2" ] || die "$1 has no argument '${*:$2+3:1}'" "tools/$tool --help"
}

# whole_number WHAT TEXT LEAST MOST: or this is the end
whole_number() {
    [[ $2 =~ ^[0-9]{1,9}$ ]] && [ "$((10#$2))" -ge "$3" ] && [ "$((10#$2))" -le "$4" ] ||
        die "$1: '$2' is not a number from $3 to $4" "tools/$tool --help"
}

# in_cache NAME: makes that folder of the cache
in_cache() {
    mkdir -p "$cache/$1" 2>/dev/null && [ -w "$cache/$1" ] ||
        die "the cache $cache cannot be written" "name another folder with INOX_CACHE=DIR"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif sudo -n true 2>/dev/null; then sudo "$@"
    else die "installing packages needs root" "run as root: $*"; fi
}

apt_install() {
    as_root timeout 1800 env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 "$@"
}

# need PACKAGE...: installs what is missing; says what in one line, nothing when all is there
need() {
    command -v dpkg-query >/dev/null || die "this is not a Debian system" "install what these Debian packages hold: $*"
    local missing log here
    here=$({ dpkg-query -W -f '${Package} ${db:Status-Status}\n' "$@" 2>/dev/null || true; } |    # some it never met
        sed -n 's/ installed$//p' | sort -u)
    missing=$(comm -13 <(echo "$here") <(printf '%s\n' "$@" | sort -u) | tr '\n' ' ')
    [ -n "$missing" ] || return 0
    say "installing with apt: $missing"
    log=$(mktemp)
    # shellcheck disable=SC2086  # a list of package names
    if ! apt_install $missing >"$log" 2>&1; then
        as_root timeout 600 apt-get update -qq >>"$log" 2>&1 || true
        apt_install $missing >>"$log" 2>&1 || {
            tail -n 5 "$log" >&2
            die "apt could not install: $missing" "look at $log and run apt-get update"
        }
    fi
    rm -f "$log"
}

# with_lock NAME COMMAND...: one process at a time, machine-wide for this cache
with_lock() (
    in_cache locks
    exec 9>"$cache/locks/$1"
    flock -n 9 || {
        say "waiting for another process that has $cache/locks/$1"
        flock -w 3600 9 ||
            die "waited an hour for $cache/locks/$1" "end the process that holds it: fuser $cache/locks/$1"
    }
    shift
    "$@"
)

# sums_hold DIR FILE...: the files of DIR still have the sums noted when they were made
sums_hold() {
    local dir=$1 file
    shift
    for file; do
        grep -F "  $file" "$dir/SHA256SUMS" | (cd "$dir" && sha256sum --status -c -) || return 1
    done 2>/dev/null
}

# scratch NAME [PARENT]: sets the variable NAME to a fresh directory that goes away with this (sub)shell
scratch() {
    printf -v "$1" %s "$(mktemp -d "${2:-${TMPDIR:-/tmp}}/inox.XXXXXX")"
    at_end "rm -rf '${!1}'"
}
