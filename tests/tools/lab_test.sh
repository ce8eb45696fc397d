#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2317  # functions that checks call by name
# tools/lab ends, and says why, whatever QEMU does: here another program stands in its place.
set -uo pipefail
root=$(readlink -f "$(dirname "$(readlink -f "$0")")/../..")
work=$(mktemp -d /tmp/inox-lab-test.XXXXXX)
trap 'grep -hos "/tmp/inox-lab\.[A-Za-z0-9]*" "$work/stderr."* | xargs -r rm -rf; rm -rf "$work"' EXIT
failed=0
qemu=$work/bin/qemu-system-x86_64
mkdir "$work/bin"

# A cache with a kernel of the lab, which nothing boots
export INOX_CACHE=$work/cache
dir=$(bash -c '. "$1/tools/lib/common.sh"; . "$1/tools/lib/kernels.sh"; lab_kernel_dir' bash "$root")
mkdir -p "$dir"
touch "$dir/vmlinux" "$dir/inox_ud.ko"

# lab NAME OPTION...: sets status, output and how long it took
lab() {
    local name=$1 begin=$SECONDS
    shift
    PATH=$work/bin:$PATH timeout -k 1 60 "$root/tools/lab" --nested "$@" -- true \
        </dev/null >"$work/stdout.$name" 2>"$work/stderr.$name"
    status=$?
    took=$((SECONDS - begin))
    errors=$(cat "$work/stderr.$name")
}

check() {
    local text=$1
    shift
    if "$@"; then echo "PASS $text"; else echo "FAIL $text: status $status after $took s: $errors"; failed=1; fi
}
said() { [[ $errors == *"$1"* ]]; }

printf '#!/nowhere/sh\n' >"$qemu"
chmod 755 "$qemu"
for turn in 1 2 3; do # it was a race
    lab unstartable --timeout 30
    check "a QEMU that cannot be executed ($turn)" [ "$status" = 126 ]
    check "and the reason ($turn)" said "QEMU could not start"
done

printf '#!/bin/sh\necho "no such machine" >&2\nexit 1\n' >"$qemu"
lab refusing --timeout 30
check "a QEMU that refuses" [ "$status" = 126 ]
check "and what it said" said "no such machine"

# Neither a QEMU nor a kernel that the lab does not know is looked for anywhere
lab unknown-qemu --timeout 30 --qemu 3.1
check "an unknown QEMU" [ "$status" = 126 ]
check "and those there are" said "--qemu host, or one of: 10.0 11.1"
lab unknown-kernel --timeout 30 --kernel debian-5.10
check "an unknown kernel" [ "$status" = 126 ]
check "and those there are" said "--kernel tailored, debian-6.1"

# Numbers are numbers, words that nothing reads are refused, and a cache that cannot be written has a next step
refuses() { # OPTION... TEXT
    local text=${*: -1} begin=$SECONDS
    errors=$(timeout -k 1 60 "$root/tools/lab" "${@:1:$#-1}" 2>&1 </dev/null)
    status=$? took=$((SECONDS - begin))
    check "refused: ${*:1:$#-1}" said "$text"
    check "with a next step" said "  next: "
    check "and its status" [ "$status" = 1 ]
}
refuses --nested -t x -- true "-t: 'x' is not a number from 0 to"
refuses --nested --timeout=-5 -- true "'-5' is not a number"
refuses --nested -m 2G -- true "-m: '2G' is not a number"
refuses --nested -s 0 -- true "-s: '0' is not a number from 1 to 255"
refuses -5 "unknown option -5"
refuses status extra "status has no argument 'extra'"
refuses kernels extra "kernels has no argument 'extra'"
INOX_LAB_STILL=soon refuses --nested -- true "INOX_LAB_STILL: 'soon' is not a number"
INOX_CACHE=/proc/nope refuses --nested -- true "the cache /proc/nope cannot be written"

# What the command will see of the host's /tmp: what its words name, and what is asked for
mkdir "$work/named in a script"
# shellcheck disable=SC2016 # for the shell inside
printf '#!/bin/sh\nfor word; do case $word in file:*) dir=${word#file:} ;; esac; done
grep lab_visible "${dir%%/*}/orders" >&2\nexit 1\n' >"$qemu"
lab visible --timeout 30 --visible "$work/named in a script"
check "a directory that is asked for is visible" said "${work}/named%20in%20a%20script"
lab absent --timeout 30 --visible "$work/absent"
check "one that does not exist is refused" said "there is no '$work/absent'"

printf '#!/bin/sh\nexec sleep 1000\n' >"$qemu"
INOX_LAB_PROGRESS=1 lab starting --timeout 12
check "a start says that it goes on" said "lab: starting a machine: kernel"
check "also while it takes long" said "lab: starting for 10 s"

lab hanging --timeout 2
check "a QEMU that hangs" [ "$status" = 124 ]
check "and its time limit" said "the time limit of 2 s is over"

# Debian's kernel where nothing can be fetched: the machine starts without the modules that Debian leaves out
dir=$(bash -c '. "$1/tools/lib/common.sh"; . "$1/tools/lib/kernels.sh"; kernel_dir 6.12' bash "$root")
mkdir -p "$dir/modules"
touch "$dir"/{vmlinuz,vmlinux,lab.files} "$dir"/modules/modules.{dep,alias}
echo 6.12.0+deb12-amd64 >"$dir/release"
echo linux-image-6.12.0+deb12-amd64_6.12.0-1_amd64.deb >"$dir/package"
(cd "$dir" && sha256sum vmlinuz >SHA256SUMS)
printf '#!/bin/sh\nexit 100\n' >"$work/bin/apt-get"
chmod 755 "$work/bin/apt-get"
for turn in 1 2; do
    lab modules --timeout 2 --kernel debian
    check "a machine without them starts ($turn)" [ "$status" = 124 ]
    check "and says what it lacks ($turn)" said "this lab has no iommufd"
done
check "what failed is not tried again at once" [ "$(grep -c building "$work/stderr.modules")" = 0 ]
rm "$work/bin/apt-get"

# The machine dies, and nobody opened its channels
printf '#!/bin/sh\nkill -SEGV $$\n' >"$qemu"
lab dying --timeout 30
check "a QEMU that crashes" [ "$status" = 125 ]
check "and that it did" said "the machine died"

# One that gives no sign of life is started once more, and no more often
printf '#!/bin/sh\n[ "$1" = --version ] && exit\necho >>%s\nexec sleep 1000\n' "$work/starts" >"$qemu"
INOX_LAB_STILL=5 lab still --timeout 50
check "a machine that stands still" [ "$status" = 125 ]
check "is started twice" [ "$(wc -l <"$work/starts")" = 2 ]
check "and both is said" said "once more"
check "with the reason" said "no sign of life for 5 s"

# And one that says of a guest that it stands still
cat >"$qemu" <<END
#!/bin/bash
[ "\$1" = --version ] && exit
echo >>$work/starts.stuck
[[ "\$*" =~ path=([^ ]*/alive) ]] && printf '\n\nstuck 12-3\ntrace kvm_exit: rip 0x5\n' >"\${BASH_REMATCH[1]}"
exec sleep 1000
END
lab stuck --timeout 50
check "a machine with a guest that stands still" [ "$status" = 125 ]
check "is started twice, too" [ "$(wc -l <"$work/starts.stuck")" = 2 ]
check "and says what stood still" said "a guest stood still by the lab's own fault"
check "with what KVM says of it" said "kvm_exit: rip 0x5"

# Of four guests one has nothing but page faults, for a minute
. "$root/tools/guest/watch.sh"
kvm=$work/kvm
guest() { # NAME EXITS FAULTS INTERRUPTS
    mkdir -p "$kvm/$1"
    echo "$2" >"$kvm/$1/exits"
    echo "$3" >"$kvm/$1/pf_taken"
    echo "$4" >"$kvm/$1/irq_injections"
    for name in nmi_injections io_exits mmio_exits halt_exits; do echo 7 >"$kvm/$1/$name"; done
}
status=0 took=0 errors=''
for turn in 0 1 2 3 4 5 6 7; do
    guest 1-stuck $((turn * 260000)) $((turn * 259000)) 5
    guest 2-works $((turn * 260000)) $((turn * 259000)) "$turn"
    guest 3-spins $((turn * 260000)) 9 5
    guest 4-waits 50 40 5
    errors+="$(look_at_guests "$kvm" "$work/seen" | sed "s/^/$turn:/") "
done
check "a guest that stands still is found, once, after a minute" [ "$(xargs <<<"$errors")" = 6:1-stuck ]
exit $failed
