# SPDX-License-Identifier: Apache-2.0
# Configuration files through `inox check` and `inox run --config`.
. "$(dirname "$0")/lib.sh"

vm=$scratch/vm.json
config() { printf '%s' "$1" >"$vm"; }

# Both commands refuse a bad file alike, naming file and pointer.
both() {
    local exit=$1 name=$2 text=$3 hint=$4
    refused "$exit" "$name" "$text" "$hint" "$inox" check "$vm"
    refused "$exit" "$name" "$text" "$hint" "$inox" run --config "$vm"
}

config '{"machine-config": {"vcpu_count": 1,}}'
both 110 config_syntax "$vm: not valid JSON: parse error at line 1" 'configs/'
config ''
both 110 config_syntax 'not valid JSON' 'configs/'
config '{"machine-config": {"smt": false, "smt": false}}'
both 110 config_syntax "$vm#/machine-config/smt: the key 'smt' appears twice" 'keep one'
config "$(printf '%040d' 0 | tr 0 '[')"
both 110 config_syntax 'nested deeper than 32 levels' ''
config '{"machine-config": {"vcpu_cuont": 1}}'
both 112 config_unknown_key "$vm#/machine-config/vcpu_cuont: unknown key" "did you mean 'vcpu_count'?"
config '{"machine_config": {}}'
both 112 config_unknown_key "$vm#/machine_config: unknown key" "did you mean 'machine-config'?"
config '{"machine-config": {"vcpu_count": "two"}}'
both 111 config_type "$vm#/machine-config/vcpu_count: expected a whole number from 1 to 255, got 'two'" ''
config '{"boot-source": {"initrd_path": "x"}}'
both 113 config_missing_key "$vm#/boot-source: the key 'kernel_image_path' is missing" 'add it'
config '{"machine-config": {"vcpu_count": 0}}'
both 107 cpus_invalid "$vm#/machine-config/vcpu_count: 0 CPUs" '1 to 255'
config '{"machine-config": {"mem_size_mib": 0}}'
both 105 memory_invalid "$vm#/machine-config/mem_size_mib: 0 bytes" '64M'
config '{"machine-config": {"huge_pages": "1G"}}'
both 114 config_value "$vm#/machine-config/huge_pages: '1G' is not one of None, Transparent or 2M" ''
config '{"pmem": [{"id": "pmem0"}]}'
both 125 unsupported "$vm#/pmem: this version of inox has no persistent memory" 'remove'
config '{"inox": {"expect": "("}}'
both 114 config_value "$vm#/inox/expect: not a regular expression" ''
head -c 1100000 /dev/zero | tr '\0' ' ' >"$vm"
both 110 config_syntax 'larger than 1 MiB' 'right file'
refused 109 config_unreadable "$scratch/absent.json" 'path' "$inox" check "$scratch/absent.json"
refused 109 config_unreadable "$scratch" 'path' "$inox" check "$scratch"

# Relative to the file; those of options to the caller's folder.
mkdir "$scratch/sub"
echo '{"boot-source": {"kernel_image_path": "k"}, "drives": [{"path_on_host": "../d"}], "inox": {"serial_log": "no/l"},
    "vsock": {"guest_cid": 3, "uds_path": "no/v"}}' >"$scratch/sub/vm.json"
for command in check 'run --config'; do
    # shellcheck disable=SC2086 # two words
    run "$inox" $command "$scratch/sub/vm.json"
    for one in k ../d no/l; do shows "'$scratch/sub/$one'"; done
done
run sh -c 'cd "$2" && exec "$1" run --config sub/vm.json --serial-log no/other' sh "$inox" "$scratch"
shows "'sub/../d'"
shows "'no/other'"

# Options come before the rules for the whole: a root of the file and a kernel of the command line are good together.
printf 'no kernel' >"$scratch/text"
config '{"root": {"path": "/"}, "command": {"arguments": ["true"]}}'
both 113 config_missing_key "$vm#/root/path: a root needs a kernel" '--kernel'
run "$inox" run --config "$vm" --kernel "$scratch/text"
checks=$((checks + 1))
[ "$code" = 101 ] && [[ $err != *'needs a kernel'* ]] || fail 'the kernel of the command line should count'

# Every problem at once.
config '{"machine-config": {"vcpu_count": 0, "mem_size_mib": "x"}, "vsock": {"guest_cid": 3}, "loger": {}}'
both 112 config_unknown_key '/loger' "did you mean 'logger'?"
for one in '/machine-config/vcpu_count' '/machine-config/mem_size_mib' '/vsock'; do shows "$vm#$one: "; done
run "$inox" check --json "$vm"
checks=$((checks + 1))
[ "$(grep -o '"where":"/' <<<"$out" | wc -l)" = 4 ] && [ "$code" = 112 ] || fail 'check --json lists four problems'

# What this host lacks for it.
config '{"boot-source": {"kernel_image_path": "/nonexistent/k", "initrd_path": "/nonexistent/i"}}'
refused 100 kernel_missing "$vm#/boot-source/kernel_image_path: " '' "$inox" check "$vm"
shows '[initrd_missing]'
config "{\"boot-source\": {\"kernel_image_path\": \"$source/LICENSE\"}}"
refused 101 kernel_invalid "$vm#/boot-source/kernel_image_path: " '' "$inox" check "$vm"
config '{"inox": {"serial_log": "/nonexistent/log"}}'
refused 119 output_unwritable "$vm#/inox/serial_log: cannot open '/nonexistent/log'" 'directory' "$inox" check "$vm"
config '{"inox": {"api_sock": "/nonexistent/s", "api_group": "no-such-group"}, "logger": {"log_path": "/nonexistent/l"},
    "vsock": {"guest_cid": "x", "uds_path": "v"}}'
refused 111 config_type "$vm#/vsock/guest_cid: " '' "$inox" check "$vm"
shows "$vm#/logger/log_path: cannot open"
shows "$vm#/inox/api_sock: Failed to open the API socket"
shows "$vm#/inox/api_group: there is no group 'no-such-group'"
drive='{"drive_id": "d%s", "path_on_host": "/nonexistent", "is_root_device": false},'
# shellcheck disable=SC2059  # a format, used once for each argument
drives=$(printf "$drive" $(seq 19))
config "{\"boot-source\": {\"kernel_image_path\": \"/k\"}, \"drives\": [${drives%,}]}"
refused 123 no_resource "$vm#/drives: 19 devices" '--enable-pci' "$inox" check --firecracker "$vm"
shows "$vm#/drives/18/path_on_host: "
config '{"machine-config": {"mem_size_mib": 257000}}'
if [ "$(awk '/MemAvailable/ {print int($2 / 1024)}' /proc/meminfo)" -lt 257000 ]; then
    run "$inox" check --json "$vm" # it would start, so it is no problem
    checks=$((checks + 1))
    grep -q '"notes":\["257000 MiB of memory asked for, but the host has only' <<<"$out" ||
        fail 'check notes that memory is short'
    ! grep -q memory_unavailable <<<"$out" || fail 'check refuses more memory than is free'
fi

# Options win over the file, also over its absent values.
config '{"machine-config": {"vcpu_count": 2, "mem_size_mib": 64}}'
refused 107 cpus_invalid '--cpus: 400 CPUs' '' "$inox" run --config "$vm" --cpus 400
config '{"machine-config": {"vcpu_count": 3}}'
refused 107 cpus_invalid "$vm#/machine-config/vcpu_count: 3 CPUs cannot be paired" 'even' \
    "$inox" run --config "$vm" --smt

if [ -w /dev/kvm ]; then
    config '{"machine-config": {"mem_size_mib": 64}}'
    accepted ': good' "$inox" check "$vm"
    accepted ': good' sh -c "'$inox' check - <'$vm'"
    config '{"boot-source": null, "drives": [], "unknown": 1}'
    refused 112 config_unknown_key '/unknown' '' "$inox" check "$vm"
fi
finish
