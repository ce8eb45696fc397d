#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A new kind of device touches its own files and the list of kinds: adds the toy to a copy of the tree so, builds it,
# and looks for the toy wherever a device shows up.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/../../tools/lib/common.sh"
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT

say "a copy of the tree with the toy in $tree"
git -C "$root" ls-files -z | tar -C "$root" --null -T - -c | tar -C "$tree" -x
cp -r "$tree"/tests/toy/{vmm,api} "$tree/"
list=$tree/vmm/config/kinds.hpp
sed -i 's,VfioConfig\, DsaConfig>;,VfioConfig\, DsaConfig\, ToyConfig>;,
    s,^#include "vmm/config/kinds/vfio.hpp",#include "vmm/config/kinds/toy.hpp"\n&,' "$list"
changed=$(diff -rq "$root/vmm" "$tree/vmm" | grep -c '^Files' || true)
[ "$changed" = 1 ] && [ "$(diff "$root/vmm/config/kinds.hpp" "$list" | grep -c '^>')" = 2 ] ||
    die "the toy touches more than the list of kinds" "look at CONTRIBUTING.md, where things go"

say "building it"
launcher=()
! command -v ccache >/dev/null || launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
export CCACHE_BASEDIR=$tree CCACHE_NOHASHDIR=1 # the same paths as in any other tree
cd "$tree"
cmake --preset release "${launcher[@]}" -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON >/dev/null
cmake --build --preset release --target inox >&2
inox=$tree/build/release/inox

# shows TEXT COMMAND...: it prints it
shows() {
    local text=$1 out
    shift
    out=$("$@" 2>&1) || true
    grep -qF -- "$text" <<<"$out" || die "$* does not show '$text'" "it prints: $out"
}
config=$tree/vm.json
echo '{"toys": [{"id": "a", "colour": "red"}]}' >"$config"
shows '--toy id=ID[,colour=C]' "$inox" run --help
shows "unknown key 'color'" "$inox" run --toy id=a,color=red
echo '{"toys": [{"id": "a"}, {"id": "a"}]}' >"$config.twice"
shows "'a' is used twice" "$inox" check "$config.twice"
echo '{"toys": [{"id": "a", "colour": "invisible"}]}' >"$config.invisible"
shows '#/toys/0/colour: this host has no invisible toys' "$inox" check "$config.invisible"
"$inox" --api-sock "$tree/sock" --id toy >/dev/null 2>&1 &
vmm=$!
trap 'kill "$vmm" 2>/dev/null; rm -rf "$tree"' EXIT
for _ in $(seq 100); do [ -S "$tree/sock" ] && break; sleep 0.1; done
shows 'toy' "$inox" ctl -s "$tree/sock" request PUT /inox/devices/b '{"nonsense": {}}'
say "the toy is there: on the command line, in the configuration, in check, in the API"
