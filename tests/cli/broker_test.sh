# SPDX-License-Identifier: Apache-2.0
# A broker that is stopped, and one that is killed.
. "$(dirname "$0")/lib.sh"

guests=$(dirname "$inox")/tests/kvm/guests
[ -w /dev/kvm ] && [ -e "$guests/echo" ] || { echo '/dev/kvm or guests are missing'; exit 77; }
command -v python3 >/dev/null && command -v pgrep >/dev/null || { echo 'python3 or pgrep is missing'; exit 77; }
checks=$((checks + 1))
python3 "$source/tests/cli/broker.py" "$inox" "$guests" "$scratch" || fail 'see above'
finish
