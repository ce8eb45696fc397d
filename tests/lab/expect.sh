# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Talks with guests over their serial consoles: the VMM's stdin and stdout, or a terminal device. Sourced. NAME is any word;
# several guests may run at once. All that a guest says is also in $expect_dir/NAME.log, what its VMM says in NAME.err.
#
#   start NAME COMMAND...          runs a VMM
#   await NAME TEXT SECONDS        until the guest has said TEXT; sets $heard to what came before it
#   type_line NAME TEXT            types a line
#   log_in NAME SECONDS            from boot to a quiet shell of root
#   guest NAME LINE [SECONDS]      runs a shell line there: its output, its status; 255 when there was no answer
#   finish NAME SECONDS            until the VMM has ended; sets $ended to its status
#   stop NAME                      ends the VMM

. "$(dirname "${BASH_SOURCE[0]}")/../../tools/lib/ends.sh"

expect_dir=$(mktemp -d "${TMPDIR:-/tmp}/inox-expect.XXXXXX")
declare -A guest_pid guest_in guest_out guest_said
heard='' ended=''

start() {
    local name=$1 in out
    shift
    rm -f "$expect_dir/$name".{in,out}
    mkfifo "$expect_dir/$name".{in,out}
    exec {in}<>"$expect_dir/$name.in" {out}<>"$expect_dir/$name.out"
    "$@" <&"$in" >&"$out" 2>>"$expect_dir/$name.err" {in}>&- {out}>&- &
    guest_pid[$name]=$! guest_in[$name]=$in guest_out[$name]=$out guest_said[$name]=
}

# hear NAME: what the guest says within a fifth of a second; status 1 when it was silent
hear() {
    local piece=
    if IFS= read -r -t 0.2 -u "${guest_out[$1]}" piece; then piece+=$'\n'; fi
    [ -n "$piece" ] || return 1
    piece=${piece//$'\r'/}
    guest_said[$1]+=$piece
    printf %s "$piece" >>"$expect_dir/$1.log"
}

await() {
    local name=$1 text=$2 limit=$((SECONDS + $3)) alive=1
    until [[ ${guest_said[$name]} == *"$text"* ]]; do
        hear "$name" && continue
        [ -n "$alive" ] || { echo "expect: $name ended before it said '$text'" >&2; return 1; }
        [ $SECONDS -lt $limit ] || { echo "expect: $name did not say '$text' within $3 s" >&2; return 1; }
        kill -0 "${guest_pid[$name]}" 2>/dev/null || alive=
    done
    heard=${guest_said[$name]%%"$text"*}
    guest_said[$name]=${guest_said[$name]#*"$text"}
}

type_line() { printf '%s\n' "$2" >&"${guest_in[$1]}"; }

log_in() {
    await "$1" 'login: ' "$2" || return
    type_line "$1" root
    await "$1" 'Password: ' 120 || return
    type_line "$1" inox
    await "$1" '# ' 120 || return
    type_line "$1" "stty -echo; dmesg -n 1; exec env PS1= PS2= TERM=dumb sh"
    [[ $(guest "$1" "echo a quiet shell" 120) == *"a quiet shell"* ]]
}

guest() {
    type_line "$1" "{ $2"$'\n'"} </dev/null; printf '<%s:%d>' status \$?"
    await "$1" '<status:' "${3:-60}" || return 255
    local output=$heard
    await "$1" '>' 60 || return 255
    printf %s "$output"
    return "$heard"
}

finish() {
    local name=$1 limit=$((SECONDS + $2))
    while hear "$name" || kill -0 "${guest_pid[$name]}" 2>/dev/null; do
        [ $SECONDS -lt $limit ] || { echo "expect: $name did not end within $2 s" >&2; stop "$name"; return 1; }
    done
    forget "$name"
}

stop() {
    [ -n "${guest_pid[$1]:-}" ] || return 0
    kill "${guest_pid[$1]}" 2>/dev/null || true
    ends_within 30 "${guest_pid[$1]}" || {
        echo "expect: $1 did not end within 30 s of SIGTERM" >&2
        kill -KILL "${guest_pid[$1]}" 2>/dev/null || true
    }
    forget "$1"
}

forget() {
    local in=${guest_in[$1]} out=${guest_out[$1]}
    ended=0
    wait "${guest_pid[$1]}" || ended=$?
    local limit=$((SECONDS + 10)) # for what a child of the VMM may go on saying
    while [ $SECONDS -lt $limit ] && hear "$1"; do :; done
    exec {in}>&- {out}>&-
    guest_pid[$1]=
}

stop_all() {
    local name
    for name in "${!guest_pid[@]}"; do stop "$name"; done
}
