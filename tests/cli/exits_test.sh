# SPDX-License-Identifier: Apache-2.0
# The table of exits of a whole run and of a running guest, and the live view: on a terminal, which is as before after
# Ctrl-C, and elsewhere.
. "$(dirname "$0")/lib.sh"

[ -w /dev/kvm ] || { echo 'needs /dev/kvm'; exit 77; }
command -v python3 >/dev/null || { echo 'python3 is missing'; exit 77; }
guests=$(dirname "$inox")/tests/kvm/guests
sock=$scratch/sock

# A run: the guest's last exit is its exit code
for name in exits.json exits.txt; do
    run "$inox" run --kernel "$guests/exit" --exits "$scratch/$name" --quiet
done
checks=$((checks + 2))
python3 - "$scratch/exits.json" <<'END' || fail 'exits.json should have the write to the exit port'
import json, sys
table = json.load(open(sys.argv[1]))
port, = (one for one in table["exits"] if one["address"] == "0xf4")
assert port["reason"] == "port" and port["access"] == "write" and port["place"] == "exit port" and port["count"] == 1
assert table["total"] == sum(one["count"] for one in table["exits"]) and table["more"] == 0
END
grep -q -E '^ +1 +[0-9.]+ %  port write 0xf4 \(exit port\)$' "$scratch/exits.txt" ||
    fail 'exits.txt should have it, too'
refused 119 output_unwritable '/nonexistent' '' "$inox" run --kernel "$guests/exit" --exits /nonexistent/e

refused 153 bad_option '--once and --interval are of top' '--help' "$inox" ctl -s x status --once
refused 153 bad_option 'top is for people' 'metrics --json' "$inox" ctl -s x top --json
refused 153 bad_option '--interval' '' "$inox" ctl -s x top --interval 1ms
refused 121 not_found "cannot reach '$scratch/none'" 'api-sock' "$inox" ctl -s "$scratch/none" top

# A guest that only exits
"$inox" run --kernel "$guests/exits" --api-sock "$sock" --timeout 900s --exits "$scratch/all.json" --quiet \
    >/dev/null 2>"$scratch/log" </dev/null &
vmm=$!
trap 'kill "$vmm" 2>/dev/null; rm -rf "$scratch"' EXIT
ctl() { "$inox" ctl -s "$sock" "$@"; }
eventually ctl status || fail 'the guest does not run'
accepted 'port    read    0x1234   PCI BAR' ctl exits
accepted '"address": "0x1234"' ctl --json exits
accepted 'port         read  0x1234       PCI BAR' ctl top --once --interval 300ms
checks=$((checks + 1))
case $out in *$'\033'*) fail 'no terminal gets no escape sequences' ;; esac
# Without an end it shows frame after frame
"$inox" ctl -s "$sock" top --interval 100ms >"$scratch/frames" 2>&1 &
top=$!
three() { [ "$(grep -c '^inox .*CPUs' "$scratch/frames")" -ge 3 ]; }
checks=$((checks + 1))
eventually three || fail 'three frames should come'
kill $top
wait $top 2>/dev/null
checks=$((checks + 1))
python3 - "$inox" "$sock" <<'END' || fail 'top should show frames on a terminal and leave it as it was'
import os, pty, select, signal, sys, time
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], [sys.argv[1], "ctl", "-s", sys.argv[2], "top", "--interval", "100ms"])
seen, end = b"", time.monotonic() + 120
def read(until):
    global seen
    while not until() and time.monotonic() < end:
        if select.select([terminal], [], [], 1)[0]:
            try:
                seen += os.read(terminal, 65536)
            except OSError:
                return
read(lambda: seen.count(b"exits/s") >= 2)
assert seen.startswith(b"\x1b[?1049h\x1b[?25l"), seen[:40]
assert b"0x1234" in seen, seen
os.write(terminal, b"\x03")
read(lambda: False)
assert seen.endswith(b"\x1b[?25h\x1b[?1049l"), seen[-40:]
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
END
kill $vmm
wait $vmm
checks=$((checks + 1))
grep -q '"address": "0x1234"' "$scratch/all.json" || fail 'a run that a signal ends should leave its table'
finish
