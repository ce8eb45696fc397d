# SPDX-License-Identifier: Apache-2.0
# Pipes without a reader, full disks and closed descriptors: a run neither hangs nor hides a loss.
. "$(dirname "$0")/lib.sh"

# Not by `run`: these ask for more than the exit code of a command.
expect_code() {
    checks=$((checks + 1))
    [ "$code" = "$1" ] || fail "$2 should end with $1"
}

refused 119 output_unwritable "'/nonexistent/t.svg'" '' "$inox" run --boot-timeline /nonexistent/t.svg
refused 153 bad_option '--expect: the expression is empty' '' "$inox" run --expect ''
refused 153 bad_option '--config: the path is empty' 'name a file' "$inox" run --config ''
accepted '--config-file FILE' "$inox" --no-api --help
accepted 'inox --no-api --help' "$inox" --help

# A start that fails leaves the last log as it was, and no option destroys what the guest is made of.
echo 'the last log' >"$scratch/log"
refused 100 kernel_missing '--kernel: ' '' "$inox" run --kernel /nonexistent --serial-log "$scratch/log"
for file in drawing.svg list.json; do
    refused 100 kernel_missing '--kernel: ' '' "$inox" run --kernel /nonexistent --boot-timeline "$scratch/$file" \
        --result "$scratch/result" --exits "$scratch/exits" --metrics "$scratch/metrics"
    checks=$((checks + 1))
    for file in "$file" result exits metrics; do
        [ ! -e "$scratch/$file" ] || fail "a start that fails leaves no $file"
    done
done
head -c 1024 /dev/zero >"$scratch/disk"
ln "$scratch/disk" "$scratch/disk.svg"
for option in --serial-log --log-path --metrics --console; do
    refused 119 output_unwritable "$option: '$scratch/disk' is a disk's image" 'file of its own' \
        "$inox" run --disk "$scratch/disk" $option "$scratch/disk"
done
refused 119 output_unwritable "--boot-timeline: '$scratch/disk.svg' is a disk's image" 'file of its own' \
    "$inox" run --disk "$scratch/disk" --boot-timeline "$scratch/disk.svg"
refused 119 output_unwritable "--serial-log: '$scratch/disk' is the kernel" 'file of its own' \
    "$inox" run --kernel "$scratch/disk" --serial-log "$scratch/disk"
checks=$((checks + 2))
[ "$(cat "$scratch/log")" = 'the last log' ] || fail 'the last log is lost'
cmp -s -n 1024 "$scratch/disk" /dev/zero && [ "$(stat -c %s "$scratch/disk")" = 1024 ] || fail 'the disk was written'

# What a path that cannot be opened is, and what to do about it.
ln -s loop "$scratch/loop"
python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$scratch/socket"
long=$scratch/$(printf 'x%.0s' {1..300})
for option in --kernel=kernel_missing:100 --disk=disk_missing:97 --serial-log=output_unwritable:119 \
    --config=config_unreadable:109; do
    name=${option#*=} option=${option%%=*}
    refused "${name#*:}" "${name%:*}" 'Too many levels' 'in a circle' "$inox" run $option "$scratch/loop"
    refused "${name#*:}" "${name%:*}" 'No such device or address' 'a socket' "$inox" run $option "$scratch/socket"
    refused "${name#*:}" "${name%:*}" 'File name too long' '255 bytes' "$inox" run $option "$long"
done

for closed in '>&-' '<&-' '<&- >&- 2>&-'; do
    timeout 30 sh -c "'$inox' --version $closed"
    code=$? out= err=
    expect_code 0 "inox --version $closed"
done

[ -w /dev/kvm ] || { echo 'not checked: runs, for lack of /dev/kvm'; finish; }

timeout 30 sh -c "'$inox' run <&- >&- 2>&-"
code=$? out= err=
expect_code 0 'inox run without descriptors 0 to 2'

for option in --serial-log --log-path --metrics --console; do
    mkfifo "$scratch/pipe"
    run timeout 30 "$inox" run $option "$scratch/pipe"
    expect_code 0 "inox run $option PIPE"
    rm "$scratch/pipe"
done
mkfifo "$scratch/pipe.svg"
run timeout 30 "$inox" run --boot-timeline "$scratch/pipe.svg"
expect_code 0 'inox run --boot-timeline PIPE'

refused 119 output_unwritable "serial log '/dev/full'" 'free space' "$inox" run --serial-log /dev/full
shows "WARN: serial log '/dev/full' cannot be written: No space left on device"
run "$inox" run --metrics /dev/full
expect_code 0 'inox run --metrics /dev/full'
shows "metrics file '/dev/full' cannot be written: No space left on device"
# Of a console that is asked for on standard output no part may be missing, unless it may be dropped; a reader may leave
refused 119 output_unwritable 'standard output lacks a part of the console' 'free space' sh -c "'$inox' run >/dev/full"
run sh -c "'$inox' run --console-overflow drop >/dev/full"
expect_code 0 'inox run --console-overflow drop >/dev/full'
run bash -c "set -o pipefail; '$inox' run | :"
expect_code 0 'inox run | :'
refused 125 output_unwritable 'standard output' 'full' sh -c "'$inox' test --kernel '$scratch/disk' --tap >/dev/full"
ln -s /dev/full "$scratch/full.svg"
refused 119 output_unwritable "boot timeline '$scratch/full.svg'" 'free space' \
    "$inox" run --boot-timeline "$scratch/full.svg"

# The log's own file: any line will do, here that of a configuration key nobody knows.
echo '{"boot-source": {"kernel_image_path": "/nonexistent"}}' >"$scratch/vm.json"
run "$inox" --no-api --config-file "$scratch/vm.json" --log-path /dev/full
shows "log file '/dev/full' cannot be written: No space left on device"
finish
