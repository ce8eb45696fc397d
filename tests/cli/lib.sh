# SPDX-License-Identifier: Apache-2.0
# Sourced by the tests here. $inox is the program, $source the repository, $scratch an empty folder.
inox=$1
source=$2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failures=0
checks=0

# Runs a command; leaves $code, $out and $err.
run() {
    out=$("$@" 2>"$scratch/stderr" </dev/null)
    code=$?
    err=$(cat "$scratch/stderr")
}

fail() {
    failures=$((failures + 1))
    printf 'FAILED: %s\n  exit code: %s\n  stdout: %s\n  stderr: %s\n' "$1" "$code" "${out:0:2000}" "${err:0:2000}"
}

# refused EXIT CODE TEXT HINT COMMAND...: ends with EXIT; one line of stderr is an error with CODE and TEXT in it, and
# the line after it a hint with HINT in it. An empty HINT asks for a hint of any kind.
refused() {
    local exit=$1 name=$2 text=$3 hint=$4
    shift 4
    run "$@"
    checks=$((checks + 1))
    local line
    line=$(grep -F -A1 -- "[$name]" <<<"$err" | grep -F -A1 -- "$text")
    if [ "$code" != "$exit" ] || ! grep -q '^inox: error: ' <<<"$line" || ! grep -q -F -- "  hint: " <<<"$line" ||
        ! grep -q -F -- "$hint" <<<"$line"; then
        fail "$* should end with $exit [$name] '$text', hint '$hint'"
    fi
}

# accepted TEXT COMMAND...: ends with 0 and shows TEXT on standard output.
accepted() {
    local text=$1
    shift
    run "$@"
    checks=$((checks + 1))
    if [ "$code" != 0 ] || ! grep -q -F -- "$text" <<<"$out"; then
        fail "$* should end with 0 and show '$text'"
    fi
}

# shows TEXT: the last command wrote it to standard error.
shows() {
    checks=$((checks + 1))
    grep -q -F -- "$1" <<<"$err" || fail "standard error lacks '$1'"
}

# eventually COMMAND...: waits until it succeeds; status 1 after five minutes, which a busy machine does not need either
eventually() {
    local end=$((SECONDS + 300))
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.01
    done
}

# await PID WHAT: waits for its end, but no longer than that, and leaves its status in $code
gone() { ! kill -0 "$1" 2>/dev/null; }
await() {
    if ! eventually gone "$1"; then
        code='' out='' err='' fail "waited five minutes for the end of $2"
        kill -KILL "$1" 2>/dev/null
    fi
    wait "$1" 2>/dev/null
    code=$?
}

finish() {
    echo "$checks checks, $failures failed"
    [ "$failures" = 0 ]
    exit
}
