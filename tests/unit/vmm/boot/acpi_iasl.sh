#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# acpi_iasl.sh UNIT_TESTS: the reference compiler takes every ACPI table apart and together again without a complaint.
command -v iasl >/dev/null || { echo "skipped: iasl is missing (apt install acpica-tools)"; exit 77; }
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
INOX_ACPI_FOLDER=$folder "$1" "[.acpi_files]" >"$folder/log" || { cat "$folder/log"; exit 1; }
cd "$folder" || exit 1
for table in FACP APIC MCFG VIOT XSDT DSDT; do
    iasl -d $table.dat >log 2>&1 || { echo "$table: cannot be disassembled"; cat log; exit 1; }
    if [ $table = VIOT ] && grep -q 'Unknown ACPI table signature' log; then
        # Before its version of 2021 it checks the header alone; the layout is then judged by the unit test and by
        # Linux.
        grep -iE 'error|warning|invalid|checksum' log && { echo "$table: see above"; exit 1; }
        echo "$table: its header is ok, this iasl does not know the rest"
        continue
    fi
    grep -iE 'error|warning|invalid|unknown' log $table.dsl && { echo "$table: see above"; exit 1; }
    # The name that Linux's driver looked for up to 6.9 is of no form that iasl knows
    sed -i 's/"VMGENCTR"/"VMGE0001"/' $table.dsl
    iasl -p $table-again $table.dsl >log 2>&1 || { echo "$table: cannot be compiled"; cat log; exit 1; }
    grep -q '0 Errors, 0 Warnings, 0 Remarks' log || { echo "$table: not clean"; cat log; exit 1; }
    echo "$table: ok"
done
