#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A guest that attacks its machine, with fixed seeds: hostile_guest.py says what must hold. `tools/dev hostile` goes on
# with random ones.
. "$(dirname "$0")/lib.sh"

[ -w /dev/kvm ] || { echo 'needs /dev/kvm'; exit 77; }
command -v python3 >/dev/null || { echo 'python3 is missing'; exit 77; }
exec python3 "$source/tests/cli/hostile_guest.py" "$inox" "$(dirname "$inox")/tests/kvm/guests/hostile"
