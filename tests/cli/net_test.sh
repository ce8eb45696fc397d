# SPDX-License-Identifier: Apache-2.0
# The user's network with Debian's passt: it is looked for, its refusals are told, it ends with inox however that ends,
# and leaves nothing. What guests do with it is tested in the lab.
. "$(dirname "$0")/lib.sh"

refused 118 host_error 'passt, which connects a guest to the user'"'"'s network, is not installed' 'apt install passt' \
    env PATH=/nonexistent "$inox" run --net user
echo '{"network-interfaces": [{"user": true}]}' >"$scratch/user.json"
refused 118 host_error 'is not installed' 'apt install passt' env PATH=/nonexistent "$inox" check "$scratch/user.json"
refused 118 host_error "cannot connect to the peer at '$scratch/none'" 'start it first' \
    "$inox" run --net "socket=$scratch/none"
command -v passt >/dev/null || { echo 'the rest needs passt'; finish; }
# passt makes one
unshare -U true 2>/dev/null || { echo 'the rest needs user namespaces'; finish; }
if [ -w /dev/kvm ]; then
    accepted ': good' "$inox" check "$scratch/user.json"
else
    refused 115 kvm_missing '/dev/kvm' 'tools/lab' "$inox" check "$scratch/user.json"
fi

# A port of the host that is in use: no guest without its network
python3 - "$scratch/port" <<'END' &
import socket, sys, time
s = socket.socket()
s.bind(("127.0.0.1", 0))
s.listen()
open(sys.argv[1], "w").write(str(s.getsockname()[1]))
time.sleep(600)
END
taken=$!
trap 'kill $taken 2>/dev/null; rm -rf "$scratch"' EXIT
eventually test -s "$scratch/port"
port=$(cat "$scratch/port")
refused 118 host_error "cannot forward tcp:127.0.0.1:$port:22: Address already in use" 'forward another port' \
    "$inox" run --net user --forward "$port:22"
refused 118 host_error 'cannot forward udp:192.0.2.1:5353:53' 'an address that this host has' \
    "$inox" run --net user --forward udp:192.0.2.1:5353:53

# The host's commands of docs/network.md, in a network of their own: blocks without those of guests, and of inox itself
python3 - "$source/docs/network.md" >"$scratch/commands" <<'END'
import re, sys
text = open(sys.argv[1]).read().split("## A tap")[1]
for block in re.findall(r"(?:^    .*\n)+", text, re.M):
    if "# in the guest" not in block.partition("\n")[0]:
        for line in re.findall(r"^    ((?:ip|sysctl|nft) .*)", block, re.M):
            print(line)
END
checks=$((checks + 1))
[ "$(grep -c '^ip ' "$scratch/commands")" -ge 8 ] || fail 'docs/network.md should have the commands of a host'
command -v nft >/dev/null || sed -i '/^nft /d' "$scratch/commands"
command -v sysctl >/dev/null || sed -i '/^sysctl /d' "$scratch/commands"
if unshare -rn sh -c 'ip link set lo up && ip link add eth0 type veth && ip tuntap add dev t mode tap' 2>/dev/null; then
    run unshare -rn env USER=root bash -euxc 'ip link set lo up; ip link add eth0 type veth; . "$0"' "$scratch/commands"
    checks=$((checks + 1))
    [ "$code" = 0 ] || fail 'the commands of docs/network.md should work when pasted'
fi

# In a network without a way out it starts too, and says what is missing
if unshare -rn true 2>/dev/null; then
    run unshare -rn sh -c 'ip link set lo up; exec "$0" run --net user --forward 2222:22 --timeout 60s' "$inox"
    shows 'this host has no default route'
fi

[ -w /dev/kvm ] || { echo 'the rest needs /dev/kvm'; finish; }
guests=$(dirname "$inox")/tests/kvm/guests

children() { pgrep -P "$(pgrep -d, -P "$1")"; } # of the process that starts programs for inox
serving() { [ -n "$(children "$1")" ] && [ -S "$scratch/api.sock" ] && "$inox" ctl -s "$scratch/api.sock" status; }
files() { find /tmp /run -maxdepth 1 -name '*passt*' 2>/dev/null; }

mkfifo "$scratch/input"
exec 8<>"$scratch/input" # never ends

# starts OPTION...: a guest that waits for input; leaves $vmm and $passt
starts() {
    rm -f "$scratch/api.sock"
    "$inox" run --kernel "$guests/echo" --api-sock "$scratch/api.sock" --quiet "$@" \
        <"$scratch/input" >"$scratch/log" 2>&1 &
    vmm=$!
    checks=$((checks + 1))
    eventually serving $vmm || { out='' err=$(cat "$scratch/log") code='' fail "inox $* should serve, with passt"; }
    passt=$(children $vmm)
}

for signal in TERM KILL; do
    before=$(files)
    starts --net user,host=on
    kill -$signal $vmm
    wait $vmm 2>/dev/null
    checks=$((checks + 2))
    eventually gone "$passt" || fail "passt should end after SIG$signal to inox"
    [ "$(files)" = "$before" ] || fail "passt should leave no file: $(files)"
done

# It is hot-plugged, dies, is started again, and goes with the interface
starts --net user
one=$passt
accepted '' "$inox" ctl -s "$scratch/api.sock" add-net second user host=true
two=$(children $vmm | grep -vx "$one")
checks=$((checks + 1))
[ -n "$two" ] || fail 'a second passt should serve the second interface'
refused 118 host_error "cannot forward tcp:127.0.0.1:$port:22" 'another port' \
    "$inox" ctl -s "$scratch/api.sock" add-net third user "forward=[\"$port:22\"]"
accepted '' "$inox" ctl -s "$scratch/api.sock" remove --force second
checks=$((checks + 1))
eventually gone "$two" || fail 'passt should end with its interface'
kill $vmm
wait $vmm 2>/dev/null
checks=$((checks + 1))
eventually gone "$one" || fail 'passt should end with the guest'
finish
