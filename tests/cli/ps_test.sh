# SPDX-License-Identifier: Apache-2.0
# Guests by their ids: --id, inox ps, inox ctl ID. Only the last part needs a KVM.
. "$(dirname "$0")/lib.sh"

command -v python3 >/dev/null || { echo 'python3 is missing'; exit 77; }
export XDG_RUNTIME_DIR=$scratch/run
mkdir -m 700 "$XDG_RUNTIME_DIR"

accepted 'none' "$inox" ps
accepted '[]' "$inox" ps --json
refused 153 bad_option "--id: 'a/b' is not an id" '1 to 64' "$inox" run --id a/b
refused 121 not_found "no guest with the id 'vm1' runs" 'inox ps' "$inox" ctl vm1 status
refused 153 bad_option 'the socket is missing' 'inox ctl ID status' "$inox" ctl status
refused 153 bad_option 'the socket is missing' '-s' "$inox" ctl add-disk d /d
checks=$((checks + 1))
[ ! -e "$XDG_RUNTIME_DIR/inox" ] || fail 'looking should make no folder'

# A process that has an id as inox has it, and answers nothing.
hold() {
    python3 - "$XDG_RUNTIME_DIR/inox" "$1" <<'PY' &
import fcntl, os, sys, time
os.makedirs(sys.argv[1], 0o700, exist_ok=True)
path = f'{sys.argv[1]}/{sys.argv[2]}'
file = open(f'{path}.lock', 'w')
fcntl.flock(file, fcntl.LOCK_EX)
file.write(f'{os.getpid()}\n{path}.sock\n')
file.flush()
open(f'{path}.ready', 'w')
time.sleep(600)
PY
    holder=$!
    eventually test -e "$XDG_RUNTIME_DIR/inox/$1.ready"
    rm "$XDG_RUNTIME_DIR/inox/$1.ready"
}
refused 121 not_found "no guest with the id 'nobody' runs" '' "$inox" exec nobody -- true
hold taken
refused 99 in_use "--id: the id 'taken' belongs to a guest that runs: the inox with pid $holder" 'inox ps' \
    "$inox" run --id taken
echo '{"inox": {"id": "taken"}}' >"$scratch/vm.json"
refused 99 in_use "#/inox/id: the id 'taken' belongs" '' "$inox" check "$scratch/vm.json"
refused 99 in_use "#/inox/id: the id 'taken' belongs" '' "$inox" run --config "$scratch/vm.json"
accepted 'no answer' "$inox" ps
accepted "\"pid\": $holder" "$inox" ps --json
refused 121 not_found "no guest with the id 'take' runs" "did you mean 'taken'?" "$inox" ctl take status
kill -KILL $holder
wait $holder 2>/dev/null
accepted 'none' "$inox" ps
checks=$((checks + 1))
[ ! -e "$XDG_RUNTIME_DIR/inox/taken.lock" ] || fail 'what a killed inox left should be removed'

chmod 755 "$XDG_RUNTIME_DIR/inox"
refused 119 output_unwritable "--id: others may use the folder" 'chmod 700' "$inox" run --id vm1
chmod 700 "$XDG_RUNTIME_DIR/inox"

if [ -w /dev/kvm ]; then
    guest=$(dirname "$inox")/tests/kvm/guests/idle
    [ -e "$guest" ] || { echo 'the guests are not built'; finish; }
    "$inox" run --id vm1 --kernel "$guest" --memory 16M -q >"$scratch/out" 2>"$scratch/err" </dev/null &
    one=$!
    "$inox" run --id --kernel "$guest" --memory 16M --api-sock "$scratch/own.sock" >"$scratch/out2" 2>"$scratch/err2" \
        </dev/null &
    two=$!
    runs() { "$inox" ctl "$@" status | grep -q Running; }
    eventually runs vm1
    eventually runs -s "$scratch/own.sock"
    accepted 'Running' "$inox" ctl vm1 status
    accepted "\"id\": \"vm1\"" "$inox" ctl vm1 --json status
    made=$(sed -n 's/^inox: the id of this guest is //p' "$scratch/err2")
    accepted 'Running' "$inox" ctl "$made" status
    accepted "$guest" "$inox" ps
    checks=$((checks + 1))
    listed=$(awk 'NR > 1 { print $1, $2, $3, $(NF - 3), $(NF - 2), $(NF - 1) }' <<<"$out" | sort)
    wanted=$(printf '%s\n' "vm1 $one Running 1 16 MiB" "$made $two Running 1 16 MiB" | sort)
    [ "$listed" = "$wanted" ] || fail "inox ps should list $wanted"
    # By its id inox exec reaches the guest, which has nothing that would run a command
    refused 121 not_found 'the guest has no vsock' '--vsock' "$inox" exec vm1 -- true
    run "$inox" run --id vm1 --kernel "$guest" --memory 16M
    checks=$((checks + 1))
    [ "$code" = 99 ] && [[ $err == *"pid $one"* ]] || fail 'a second vm1 should be refused with the pid of the first'
    accepted 'Paused' sh -c '"$1" ctl vm1 pause && "$1" ps' sh "$inox"
    kill $one $two
    await $one vm1
    await $two "$made"
    accepted 'none' "$inox" ps
    checks=$((checks + 1))
    [ -z "$(ls "$XDG_RUNTIME_DIR/inox")" ] || fail 'the end should remove all of it'
fi
finish
