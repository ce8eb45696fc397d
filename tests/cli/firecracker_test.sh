# SPDX-License-Identifier: Apache-2.0
# Firecracker's flags: its texts for wrong arguments, exit code 153, and what inox does not have yet.
. "$(dirname "$0")/lib.sh"

vm=$scratch/vm.json
printf '{"boot-source": {"kernel_image_path": "/nonexistent/k"}, "drives": []}' >"$vm"
wrong() {
    local text=$1 hint=$2
    shift 2
    refused 153 bad_option "Arguments parsing error: $text" "$hint" "$inox" "$@"
}

wrong "Found argument 'idd' which wasn't expected, or isn't valid in this context." "did you mean '--id'?" --idd x
wrong "Found argument 'vm.json' which wasn't expected" '' --no-api vm.json
wrong "Found argument '-x' which wasn't expected" '' -x
wrong "Found argument 'kernel' which wasn't expected" 'inox run --kernel' --kernel x
wrong "The argument 'id' requires a value, but none was supplied." 'try --help' --id
wrong "The argument 'id' requires a value, but none was supplied." 'try --help' --id --no-api
wrong "The argument 'no-api' was provided more than once." 'try --help' --no-api --no-api
wrong "Argument 'config-file' required, but not found." 'try --help' --no-api
wrong "Argument 'no-seccomp' cannot be used together with argument 'seccomp-filter'." 'try --help' \
    --no-seccomp --seccomp-filter f
wrong "'--start-time-us' is not a number: 'x'" '' --no-api --config-file "$vm" --start-time-us x

refused 153 bad_option 'Invalid instance ID: Invalid char (_) at position 1' 'letters' \
    "$inox" --no-api --config-file "$vm" --id a_b
refused 153 bad_option 'Invalid instance ID: Invalid len (65)' 'letters' \
    "$inox" --no-api --config-file "$vm" --id "$(printf '%065d' 0)"
refused 152 bad_option "'loud' is not a log level" 'Warning' "$inox" --no-api --config-file "$vm" --level loud

accepted 'v1.0.0' "$inox" --snapshot-version
refused 1 snapshot_missing 'Unable to open snapshot state file: No such file or directory (os error 2)' 'state file' \
    "$inox" --describe-snapshot "$scratch/nothing"
echo nothing >"$scratch/no-state"
refused 1 snapshot_invalid 'Invalid data format version of snapshot file: ' '' \
    "$inox" --describe-snapshot "$scratch/no-state"
wrong "Argument 'no-api' cannot be used together with argument 'api-sock'." 'try --help' \
    --no-api --config-file "$vm" --api-sock s
for flag in 'api-group root' 'api-connections 3' 'keep-fds 0,1'; do
    # shellcheck disable=SC2086 # a flag and its value
    wrong "Argument 'no-api' cannot be used together with argument '${flag%% *}'." '' \
        --no-api --config-file "$vm" --$flag
done
wrong "'--http-api-max-payload-size' is not a number: 'x'" '' --api-sock "$scratch/s" --http-api-max-payload-size x
wrong "'--api-connections' is outside 1 to 4096: '0'" '' --api-sock "$scratch/s" --api-connections 0
wrong "'--api-group' names no group" '' --api-sock "$scratch/s" --api-group ''
long=$scratch/$(printf '%0120d' 0)
refused 153 bad_option "path has ${#long} bytes: a unix socket takes at most 107" 'shorter' "$inox" --api-sock "$long"
: >"$scratch/file"
refused 1 in_use 'Failed to open the API socket at:' 'another path' "$inox" --api-sock "$scratch/file"
refused 153 bad_option "there is no group 'no-such-group'" '/etc/group' \
    "$inox" --api-sock "$scratch/s" --api-group no-such-group

accepted 'inox 0.' "$inox" --version
ln -s "$inox" "$scratch/firecracker"
accepted 'Firecracker v1.' "$scratch/firecracker" --version
accepted '--api-sock PATH' "$inox" --no-api --help
accepted '--api-sock PATH' "$inox" --id a --help

# The file is read as Firecracker reads it.
refused 1 kernel_missing '/nonexistent/k' '' \
    "$inox" --no-api --config-file "$vm" --id a-1 --no-seccomp --boot-timer --level Info --show-level \
    --start-time-us 1 --start-time-cpu-us 1 --parent-cpu-time-us 1
shows "Running Firecracker v"
shows "instance 'a-1'"
shows ' [a-1:main:INFO] Running Firecracker v'
printf '{"boot-source": {"kernel_image_path": "/nonexistent/k"}, "extra": 1}' >"$vm"
refused 1 kernel_missing '/nonexistent/k' '' "$inox" --no-api --config-file "$vm"
shows "the unknown key 'extra' is ignored"
refused 1 kernel_missing '/nonexistent/k' '' "$inox" --no-api --config-file "$vm" --log-path "$scratch/log"
checks=$((checks + 1))
grep -q "the unknown key 'extra' is ignored" "$scratch/log" || fail 'the log file has the line'
printf '{}' >"$vm"
refused 1 config_missing_key "$vm: the key 'boot-source' is missing" '' "$inox" --no-api --config-file "$vm"
printf '{"boot-source": {"kernel_image_path": "/k"}, "machine-config": {"vcpu_count": 1}}' >"$vm"
refused 1 config_missing_key "$vm#/machine-config: the key 'mem_size_mib' is missing" '' \
    "$inox" --no-api --config-file "$vm"

printf '{"boot-source": {"kernel_image_path": "/k"}, "drives": [],
    "machine-config": {"vcpu_count": 33, "mem_size_mib": 64}}' >"$vm"
refused 1 cpus_invalid "$vm#/machine-config/vcpu_count: 33 CPUs" '1 to 32' "$inox" --no-api --config-file "$vm"

# A whole run.
guest=$(dirname "$inox")/tests/kvm/guests/exit
if [ -w /dev/kvm ] && [ -e "$guest" ]; then
    printf '{"boot-source": {"kernel_image_path": "%s"}, "drives": [], "machine-config": {"vcpu_count": 1,
        "mem_size_mib": 16}, "network-interfaces": [], "vsock": null}' "$guest" >"$vm"
    run "$inox" --no-api --config-file "$vm" --id vm-1 --no-seccomp --boot-timer
    checks=$((checks + 1))
    [ "$code" = 42 ] || fail 'the exit code of the guest is 42'
    shows 'Guest-boot-time: the guest did not report'
    shows 'Successfully started microvm that was configured from one single json'
    sed -i "s|/exit\"|/boot_timer\"|" "$vm"
    run "$inox" --no-api --config-file "$vm" --boot-timer
    checks=$((checks + 1))
    line='\] Guest-boot-time = +[0-9]+ us [0-9]+ ms, +[0-9]+ CPU us [0-9]+ CPU ms$'
    [ "$code" = 5 ] && [ "$(grep -cE "$line" "$scratch/stderr")" = 1 ] ||
        fail 'one line tells how long the guest took until its user space was up'
    sed -i "s|/boot_timer\"|/exit\"|" "$vm"
    run "$inox" check --firecracker "$vm"
    checks=$((checks + 1))
    [ "$code" = 0 ] || fail 'the same file passes the check'
else
    echo 'not checked: a whole run, for lack of /dev/kvm or the guest'
fi
finish
