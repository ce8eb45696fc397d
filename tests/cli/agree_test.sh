# SPDX-License-Identifier: Apache-2.0
# Whatever `inox check` refuses, `inox run` refuses in the same words: for every bad configuration there is, with this
# host's /dev and with one that has no /dev/kvm. And of several problems both tell the same one first.
. "$(dirname "$0")/lib.sh"

vm=$scratch/vm.json
folder=$scratch/folder
mkdir "$folder"
head -c 1024 /dev/zero | tr '\0' x >"$folder/disk"
ln "$folder/disk" "$folder/link"
printf x >"$folder/odd"
printf 'QFI\373' >"$folder/qcow2"
printf '\037\213\010' >"$folder/gzip"
printf '7z\274\257\047\034' >"$folder/7z"
mkfifo "$folder/fifo"
ln -s s "$folder/dangling"
ln -s loop "$folder/loop"
python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$folder/socket"
contents=$(ls "$folder")

# first_error COMMAND...: leaves its exit code and, in $first, its first error with the hint.
first_error() {
    run timeout 60 "${dev[@]}" "$@"
    first=$(grep -A1 '^inox: error: ' <<<"$err" | head -2)
}

# both EXIT NAME POINTER: of $vm.
both() {
    local exit=$1 name=$2 where=$3 text
    text="inox: error: $vm"
    [ "$where" = - ] || text="$text#$where: "
    first_error "$inox" check "$vm"
    local of_check=$first
    checks=$((checks + 2))
    if [ "$code" != "$exit" ] || [[ $first != "$text"* ]] || [[ $first != *"[$name]"* ]]; then
        fail "check should refuse $(cat "$vm") with $exit [$name] at $where"
    fi
    first_error "$inox" run --config "$vm"
    [ "$code" = "$exit" ] && [ "$first" = "$of_check" ] ||
        fail "run should refuse $(cat "$vm") as check does: $of_check"
}

every_bad_configuration() {
    local exit name where json
    while read -r exit name where json; do
        [ "$exit" = '#' ] && continue
        printf '%s\n' "${json//@/$folder}" >"$vm"
        both "$exit" "$name" "$where"
    done <"$source/tests/cli/bad_configs.txt"
    checks=$((checks + 1))
    [ "$(ls "$folder")" = "$contents" ] || fail "something was left behind: $(ls "$folder")"
}

# both_firecracker TEXT [FLAG]: `check --firecracker` and a start with Firecracker's flags refuse $vm in the same words,
# TEXT among them. The exit codes are Firecracker's there.
both_firecracker() {
    local text=$1 of_check
    shift
    first_error "$inox" check --firecracker "$@" "$vm"
    of_check=$first
    checks=$((checks + 2))
    [ "$code" != 0 ] && [[ $first == *"$text"* ]] || fail "check --firecracker $* should refuse with '$text'"
    first_error "$inox" --no-api --config-file "$vm" "$@"
    [ "$code" != 0 ] && [ "$first" = "$of_check" ] || fail "a start $* should refuse as check does: $of_check"
}

firecracker() {
    local head='"boot-source": {"kernel_image_path": "@/none"}, "machine-config": {"vcpu_count": 1, "mem_size_mib": 64}'
    local i drives=''
    for ((i = 0; i < 32; i++)); do
        drives+=", {\"drive_id\": \"d$i\", \"is_root_device\": false, \"path_on_host\": \"@/d$i\"}"
    done
    write() { printf '%s\n' "${1//@/$folder}" >"$vm"; }
    write "{$head, \"drives\": [${drives:2}]}"
    both_firecracker '32 devices: a machine without PCI has room for 17'
    both_firecracker '32 devices: a machine with PCI has room for 31' --enable-pci
    write "{$head, \"dsa\": {}, \"logger\": {\"log_path\": \"@/no/l\"}}"
    both_firecracker '#/dsa: the accelerator is a PCI device'
    both_firecracker 'log_path' --enable-pci
    write "{$head, \"dsa\": {\"queues\": 8, \"entries\": 4}, \"iommu\": {}, \"vfio\": [{\"host\": \"0000:7f:1f.7\"}]}"
    both_firecracker '#/iommu: an IOMMU needs PCI'
    both_firecracker '#/dsa/entries: there are fewer entries than queues' --enable-pci
    write "{$head, \"inox\": {\"pci_window_32_mib\": 512}}"
    both_firecracker '#/inox: a machine without PCI has no windows'
}

# In the order of a start; those of "inox" stand in one object.
order=(
    '119 output_unwritable /logger/log_path "logger": {"log_path": "@/no/l"}'
    '119 output_unwritable /inox/boot_timeline "boot_timeline": "@/no/t.svg"'
    '153 bad_option /inox/api_group "api_sock": "@/no/a", "api_group": "no-such-group"'
    '119 output_unwritable /metrics/metrics_path "metrics": {"metrics_path": "@/no/m"}'
    '119 output_unwritable /serial/serial_out_path "serial": {"serial_out_path": "@/no/s"}'
    '119 output_unwritable /inox/serial_log "serial_log": "@/no/log"'
    '119 output_unwritable /console/path "console": {"path": "@/no/c"}'
    '106 memory_unavailable /machine-config/huge_pages "machine-config": {"mem_size_mib": 200000, "huge_pages": "2M"}'
    '100 kernel_missing /boot-source/kernel_image_path "boot-source": {"kernel_image_path": "@/none"}'
    '121 not_found /vfio/0 "vfio": [{"host": "0000:7f:1f.7"}]'
    '97 disk_missing /drives/0/path_on_host "drives": [{"path": "@/none"}]'
    '118 host_error /network-interfaces/0/host_dev_name "network-interfaces": [{"host_dev_name": "lo"}]'
    '118 host_error /vsock/uds_path "vsock": {"guest_cid": 3, "uds_path": "@/no/v"}'
    '121 not_found /shares/0/socket "shares": [{"tag": "t", "socket": "@/none"}, {"tag": "u", "path": "@/none"}]'
)

# All of them, then all but the first, and so on.
the_same_first() {
    local i j exit name where text of_inox others
    for i in "${!order[@]}"; do
        of_inox='' others=''
        for ((j = i; j < ${#order[@]}; j++)); do
            read -r exit name where text <<<"${order[j]}"
            if [[ $where == /inox/* ]]; then of_inox+=", $text"; else others+=", $text"; fi
        done
        text="{\"inox\": {${of_inox#, }}$others}"
        printf '%s\n' "${text//@/$folder}" >"$vm"
        read -r exit name where text <<<"${order[i]}"
        both "$exit" "$name" "$where"
    done
}

# Two devices, ready to assign, with a BAR of 256 MiB each that has to lie below 4 GiB: as a shell sees them that runs
# with another /sys and /dev.
fake_devices='mount -t tmpfs none /sys && mount -t tmpfs none /dev && mkdir -p /dev/vfio /sys/class/iommu/dmar0 &&
    mkdir -p /sys/bus/pci/drivers/vfio-pci && : >/dev/vfio/vfio && mknod /dev/null c 1 3 || exit 1
    for n in 1 2; do
        home=/sys/bus/pci/devices/0000:0$n:00.0 group=/sys/kernel/iommu_groups/$n
        mkdir -p "$home" "$group/devices" && : >"/dev/vfio/$n"
        echo 0x1b36 >"$home/vendor" && echo 0x0010 >"$home/device" && echo 0x030000 >"$home/class"
        echo 0xc0000000 0xcfffffff 0x200 >"$home/resource"
        ln -s "$group" "$home/iommu_group" && ln -s /sys/bus/pci/drivers/vfio-pci "$home/driver"
        ln -s "$home" "$group/devices/"
    done
    exec "$@"'

# Only where there is a KVM does anybody know what it lacks; where there is none, both say that.
unknown_leaf() {
    echo '{"cpu-config": {"cpuid_modifiers": [{"leaf": "0x33333", "subleaf": "0x0", "flags": 0,
        "modifiers": [{"register": "eax", "bitmap": "0b1"}]}]}}' >"$vm"
    if "${dev[@]}" test -e /dev/kvm; then
        both 114 config_value /cpu-config/cpuid_modifiers
    else
        refused 115 kvm_missing '/dev/kvm' 'modprobe' "${dev[@]}" "$inox" run --config "$vm"
        refused 115 kvm_missing '/dev/kvm' 'modprobe' "${dev[@]}" "$inox" check "$vm"
    fi
}

dev=()
every_bad_configuration
the_same_first
firecracker
unknown_leaf
if unshare --mount true 2>/dev/null; then
    # shellcheck disable=SC2016 # for the shell inside
    dev=(unshare --mount sh -c 'mount -t tmpfs none /dev && mknod /dev/null c 1 3 &&
        mkdir /dev/net && mknod /dev/net/tun c 10 200 && exec "$@"' sh)
    if run "${dev[@]}" true && [ "$code" = 0 ]; then
        every_bad_configuration
        the_same_first
        firecracker
        unknown_leaf
        echo '{}' >"$vm"
        refused 115 kvm_missing '/dev/kvm' 'modprobe' "${dev[@]}" "$inox" run --config "$vm"
        refused 115 kvm_missing '/dev/kvm' 'modprobe' "${dev[@]}" "$inox" check "$vm"
    fi
    dev=(unshare --mount sh -c "$fake_devices" sh)
    echo '{"vfio": [{"host": "0000:01:00.0"}, {"host": "0000:02:00.0"}]}' >"$vm"
    both 123 no_resource /vfio
else
    echo 'not checked: a host without /dev/kvm, for lack of the right to make a mount namespace'
fi
finish
