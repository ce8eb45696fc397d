# SPDX-License-Identifier: Apache-2.0
# GDB itself debugs a small guest: first instruction, breakpoints of each kind, steps, registers, memory, monitor, its
# ways to leave.
. "$(dirname "$0")/lib.sh"

[ -w /dev/kvm ] || { echo 'needs /dev/kvm'; exit 77; }
command -v gdb >/dev/null || { echo 'gdb is missing: apt install gdb'; exit 77; }
guests=$(dirname "$inox")/tests/kvm/guests

# debug GUEST OPTION... -- GDB-COMMAND...: one guest and one gdb; $code is the guest's, $out what gdb said
debug() {
    local guest=$1 options=() commands=()
    shift
    while [ "$1" != -- ]; do options+=("$1"); shift; done
    shift
    for command; do commands+=(-ex "$command"); done
    rm -f "$scratch/gdb.sock"
    "$inox" run --kernel "$guests/$guest" --memory 16M --timeout 100s --gdb "unix:$scratch/gdb.sock" "${options[@]}" \
        >"$scratch/guest.out" 2>"$scratch/err" </dev/null &
    local vmm=$!
    eventually test -S "$scratch/gdb.sock"
    HOME=$scratch timeout 90 gdb -nx -q -batch -ex 'set debuginfod enabled off' -ex 'set confirm off' \
        -ex "target remote $scratch/gdb.sock" "${commands[@]}" "$guests/$guest" >"$scratch/out" 2>&1 </dev/null
    await "$vmm" 'the VMM'
    out=$(cat "$scratch/out") err=$(cat "$scratch/err")
}
# says TEXT...: gdb said each, in this order
says() {
    local rest=$out text
    for text; do
        checks=$((checks + 1))
        case $rest in *"$text"*) rest=${rest#*"$text"} ;; *) fail "gdb should say '$text'" && return ;; esac
    done
}
ends() {
    checks=$((checks + 1))
    [ "$code" = "$1" ] || fail "the guest should end with $1"
}

# First instruction, steps, registers, memory, monitor.
debug debug -- 'p/x $pc == (long)&_start' 'p (long)counter' stepi 'p $pc == (long)&_start + 7' \
    'p $rsp == (long)&stack_top' 'set var *(long*)&handled = 40' 'set var *(long*)&counter = 40' \
    'p $xmm3.v2_int64[0] = 0x1234567890' \
    'p/x $xmm3.v2_int64[0]' 'p/x $cr0 & 0x80000001' 'p/x $efer & 0x500' 'x/i $pc' 'stepi 3' \
    'p/x $rbx == (long)&gate_3' \
    'info threads' 'monitor irqs' 'monitor devices' 'monitor kaslr' 'monitor nonsense' 'x/2xb 0x40000000000' \
    'p $pc = (long)&again' 'p $eflags & 0x100' stepi 'x/i $pc' 'p (long)counter' detach
says '$1 = 0x1' '$2 = 0' '$3 = 1' '$4 = 1' '= 78187493520' '0x1234567890' '0x80000001' '0x500' 'lea' '= 0x1' 'vCPU 0' \
    'no MSI is in force' 'no devices but' 'not known' 'monitor kaslr' 'Cannot access memory' '= 0' '<count>:' '= 40' \
    detached
# The stack and the table of interrupts were left out by the jump, so the guest ends by its first int3.
checks=$((checks + 1))
[ "$code" = 131 ] || [ "$code" = 133 ] || fail 'the guest that was sent past its preparation should fault'
[[ $err == *"the guest waits for GDB: target remote $scratch/gdb.sock"* ]] || fail 'inox should say how to connect'

# Software and hardware breakpoints and a watchpoint; the guest's own breakpoints stay its own.
if [ -z "${INOX_LAB:-}" ]; then
    debug debug -- 'break count' continue 'p (long)counter' continue 'p (long)counter' stepi 'p (long)counter' delete \
        'hbreak *&count' continue 'p (long)counter' delete 'watch *(long*)&counter' continue 'p (long)counter' \
        delete detach
    says 'Breakpoint 1' 'Breakpoint 1' '$1 = 0' 'Breakpoint 1' '$2 = 1' '$3 = 2' 'Breakpoint 2' '$4 = 2' \
        'Old value = 2' \
        'New value = 3' '$5 = 3' detached
    ends 0
    # A client that goes without a word leaves no breakpoint behind.
    debug debug -- 'break count' continue 'shell kill -9 $PPID'
    ends 0
else
    echo "skipped in the lab: breakpoints (QEMU's SVM intercepts no INT3, and loads no debug registers)"
fi

# Without a breakpoint the guest runs through; GDB sees its end.
debug debug -- continue
says 'exited normally'
ends 0

# Killed from GDB.
debug debug -- stepi kill
ends 0
[[ $err == *'the debugger ended the guest'* ]] || fail 'the closing line should name the debugger'

# wait=off: the guest runs by itself, and can be interrupted.
rm -f "$scratch/gdb.sock"
"$inox" run --kernel "$guests/spin" --memory 16M --timeout 100s --gdb "unix:$scratch/gdb.sock,wait=off" \
    >/dev/null 2>"$scratch/err" </dev/null &
vmm=$!
eventually test -S "$scratch/gdb.sock"
for round in 1 2; do
    HOME=$scratch timeout 60 gdb -nx -q -batch -ex 'set confirm off' -ex "target remote $scratch/gdb.sock" \
        -ex 'python import threading, os, signal; threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()' \
        -ex continue -ex 'p $pc != 0' -ex detach "$guests/spin" >"$scratch/out" 2>&1 </dev/null
    out=$(cat "$scratch/out")
    says 'SIGINT' '= 1' 'detached'
done
kill "$vmm"
await "$vmm" 'the VMM'
ends 143

finish
