# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# For the benchmarks.

# emit BENCH METRIC UNIT VALUE PEER PEER_VALUE RATIO RUNS
emit() {
    printf '{"bench":"%s","metric":"%s","unit":"%s","value":%s,"peer":"%s","peer_value":%s,"ratio":%s,"runs":%s}\n' "$@"
}

# QEMU's microvm with everything off that a direct kernel boot does not need.
# shellcheck disable=SC2034,SC2054  # the commas are QEMU's
qemu_microvm=(-M microvm,x-option-roms=off,pit=off,pic=off,rtc=off,isa-serial=on -accel kvm -nodefaults
    -no-user-config -display none -no-reboot -serial stdio)
