# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# For the benchmarks.

# emit BENCH METRIC UNIT VALUE PEER PEER_VALUE RATIO RUNS
emit() {
    printf '{"bench":"%s","metric":"%s","unit":"%s","value":%s,"peer":"%s","peer_value":%s,"ratio":%s,"runs":%s}\n' "$@"
}

# beside_ram PID MIB: KiB resident, without the mapping of guest RAM. That is known by its size: its name needs a kernel
# with CONFIG_ANON_VMA_NAME.
beside_ram() {
    awk -v kib=$(($2 * 1024)) '/^Size:/ { ram = $2 == kib } /^Rss:/ && !ram { sum += $2 } END { print sum }' \
        "/proc/$1/smaps"
}

median() {
    sort -g | awk '{ v[NR] = $1 }
        END { printf "%.6g\n", NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

# QEMU's microvm with everything off that a direct kernel boot does not need.
# shellcheck disable=SC2034,SC2054  # the commas are QEMU's
qemu_microvm=(-M microvm,x-option-roms=off,pit=off,pic=off,rtc=off,isa-serial=on -accel kvm -nodefaults
    -no-user-config -display none -no-reboot -serial stdio)
