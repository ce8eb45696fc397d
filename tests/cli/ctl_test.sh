# SPDX-License-Identifier: Apache-2.0
# inox ctl against a running guest: tables, JSON, refusals.
. "$(dirname "$0")/lib.sh"

refused 153 bad_option 'the command is missing' 'status' "$inox" ctl
refused 153 bad_option "unknown command 'statsu'" "did you mean 'status'?" "$inox" ctl -s x statsu
refused 153 bad_option 'the socket is missing' '-s' "$inox" ctl status
refused 153 bad_option 'remove takes ID' '--help' "$inox" ctl -s x remove
refused 153 bad_option "unknown option '--frob'" '--help' "$inox" ctl --frob
refused 153 bad_option 'the value of -s is missing' '--help' "$inox" ctl status -s
refused 121 not_found "cannot reach '$scratch/none'" 'api-sock' "$inox" ctl -s "$scratch/none" status
accepted 'add-disk ID PATH' "$inox" ctl --help

guests=$(dirname "$inox")/tests/kvm/guests
[ -w /dev/kvm ] && [ -e "$guests/echo" ] || { echo 'not checked: a running guest, for lack of /dev/kvm or the guest'; finish; }
sock=$scratch/sock
truncate -s 1M "$scratch/disk" "$scratch/disk2"
mkfifo "$scratch/input"
exec 8<>"$scratch/input" # never ends
"$inox" run --kernel "$guests/echo" --api-sock "$sock" --disk "path=$scratch/disk,id=first" --balloon size=2 --timeout 100s >/dev/null 2>"$scratch/log" <"$scratch/input" &
vmm=$!
trap 'kill "$vmm" 2>/dev/null; rm -rf "$scratch"' EXIT
for _ in $(seq 300); do
    [ ! -S "$sock" ] || ! "$inox" ctl -s "$sock" status 2>/dev/null | grep -q Running || break
    sleep 0.01
done
ctl() { "$inox" ctl -s "$sock" "$@"; }

accepted 'state                 Running' ctl status
accepted '"state": "Running"' ctl --json status
accepted 'kernel_image_path' ctl config
accepted 'vcpu_count         1' ctl machine
accepted "first  no    no        Writeback  -       $scratch/disk" ctl drives
accepted 'none' ctl nets
accepted 'amount_mib                2' ctl balloon
accepted '' ctl balloon 3
accepted 'amount_mib                3' ctl balloon
refused 120 wrong_state 'Balloon config error: ' '' ctl balloon-statistics
accepted 'first     disk     0000:00:' ctl devices
accepted '' ctl add-disk second "$scratch/disk2"
accepted 'second    disk' ctl devices
refused 97 disk_missing '/nonexistent' 'path' ctl add-disk third /nonexistent
accepted '' ctl remove second --force
refused 121 not_found '' '' ctl remove second --kind disk
accepted 'none' ctl irqs
accepted 'no IOMMU' ctl iommu
accepted 'no PASIDs' ctl pasids
accepted 'inox_vcpu_exits_total' ctl metrics
accepted '"openapi":"3.1.0"' ctl openapi
accepted '"app_name":"Firecracker"' ctl request GET /
refused 153 bad_option 'Invalid request method and/or path: GET nothing.' 'openapi' ctl request GET /nothing
ctl events >"$scratch/events" &
reader=$!
accepted '' ctl pause
accepted 'Paused' ctl status
accepted '' ctl resume
accepted '' ctl stop
kill "$vmm"
wait "$vmm"
wait "$reader"
code=$?
checks=$((checks + 2))
[ "$code" = 0 ] || fail 'the events end with the VMM, and that is no error'
grep -q '  paused$' "$scratch/events" || fail 'events are lines'
finish
