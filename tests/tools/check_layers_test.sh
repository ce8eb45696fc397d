#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# check_layers.py finds what breaks the include rule, and nothing else.
set -euo pipefail
tool=$(dirname "$(readlink -f "$0")")/../../tools/check_layers.py
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
failed=0

# expect STATUS TEXT: the verdict on the tree, and a text it must hold
expect() {
    local status=0 verdict
    verdict=$("$tool" "$tree") || status=$?
    if [ "$status" = "$1" ] && grep -qF "$2" <<<"$verdict"; then echo "PASS $2"
    else
        echo "FAIL wanted status $1 and '$2', got $status and: $verdict"
        failed=1
    fi
}

mkdir -p "$tree"/{vmm/{base,machine,bus},iommu,devices/pci,tests}
touch "$tree"/vmm/{base/range,machine/machine,bus/bus}.hpp "$tree/devices/pci/root.hpp"
echo '#include "vmm/base/range.hpp"' >"$tree/devices/pci/root.cpp"
echo '#include "root.hpp"' >>"$tree/devices/pci/root.cpp"
expect 0 "no broken rules"

echo '#include "devices/pci/root.hpp"' >"$tree/iommu/domain.cpp"
expect 1 "iommu/domain.cpp:1: iommu may not include devices"
rm "$tree/iommu/domain.cpp"

printf '\n  #  include "vmm/machine/machine.hpp"\n' >"$tree/vmm/base/range.cpp"
expect 1 "vmm/base/range.cpp:2: vmm/base may not include vmm/machine"
rm "$tree/vmm/base/range.cpp"

echo '#include <boost/asio.hpp>' >"$tree/vmm/bus/bus.cpp"
expect 1 "vmm/bus/bus.cpp:1: <boost/asio.hpp> belongs into"
mv "$tree/vmm/bus/bus.cpp" "$tree/vmm/base/event_loop.cpp"
expect 0 "no broken rules"

mkdir -p "$tree"/tests/{fakes,unit/iommu}
touch "$tree/tests/catch.hpp"
echo '#include "tests/catch.hpp"' >"$tree/tests/fakes/host.cpp"
expect 1 "tests/fakes/host.cpp:1: tests/fakes may not include tests"
rm "$tree/tests/fakes/host.cpp"

echo 'namespace inox::other_test {' >"$tree/tests/unit/iommu/domain_test.cpp"
expect 1 "tests/unit/iommu/domain_test.cpp:1: no 'namespace inox::domain_test {'"
echo 'namespace inox::domain_test {' >"$tree/tests/unit/iommu/domain_test.cpp"
expect 0 "no broken rules"

rm -r "${tree:?}"/*
expect 1 "0 files"
exit $failed
