# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# No script ends without a word: one that set -e or set -u ends, rather than an exit of its own, says where. Sourced, by
# tools and tests alike. Who sources this uses at_end instead of trap ... EXIT.
#
#   at_end COMMAND               runs at the end of this (sub)shell, the latest first
#   ends_within SECONDS PID...   waits for the ends of processes; status 1 when the time is over
#   await_end PID WHAT           waits a minute for its end, then says so and kills it; its status

exec {ends_stderr}>&2           # the end may come where standard error is somewhere else
ends_asked='' ends_place='' ends_commands='' ends_pid=$BASHPID

exit() {
    ends_asked=1
    builtin exit "$@"
}

# already_said: in a subshell: what made it end was said, the script need not
already_said() { [ "$BASHPID" = $$ ] || : >"/tmp/.inox-said.$$"; }

at_end() {
    [ "$ends_pid" = "$BASHPID" ] || ends_pid=$BASHPID ends_commands=''
    ends_commands="$1; $ends_commands"
    trap 'ends_finish $? "$BASH_COMMAND"' EXIT
}

ends_finish() {
    set +eu
    if [ "$1" != 0 ] && [ -z "$ends_asked" ] && [ "$BASHPID" = $$ ] && [ ! -e "/tmp/.inox-said.$$" ]; then
        printf '%s: ended by itself, status %s%s: %s\n' "${0##*/}" "$1" "$ends_place" "$2" >&"$ends_stderr"
    fi
    [ "$BASHPID" != $$ ] || rm -f "/tmp/.inox-said.$$"
    eval "$ends_commands"
}

ends_within() {
    local end=$((SECONDS + $1)) pid
    shift
    for pid; do
        while kill -0 "$pid" 2>/dev/null; do
            [ $SECONDS -lt $end ] || return 1
            sleep 0.05
        done
    done
}

await_end() {
    ends_within 60 "$1" || {
        echo "${0##*/}: waited a minute for the end of $2" >&2
        kill -KILL "$1" 2>/dev/null || true
    }
    wait "$1" 2>/dev/null
}

set -E
# shellcheck disable=SC2154  # an assignment in the trap
trap '[[ $- != *e* ]] || ends_place=" at ${BASH_SOURCE[0]##*/}:$LINENO"' ERR
at_end :
