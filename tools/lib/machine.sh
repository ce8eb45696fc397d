# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# The lab machine: QEMU's arguments for it, and which kernel it boots. Needs common.sh, kernels.sh, modules.sh,
# initramfs.sh and qemu.sh.

# probe_host: sets tsc_khz and kvm (good, interpreting, missing, denied, broken)
probe_host() {
    local probe
    probe=$cache/host-probe-$(sha256sum <"$root/tools/guest/host-probe.c" | head -c 12)
    if [ ! -x "$probe" ] && command -v gcc >/dev/null; then
        in_cache .
        gcc -O1 -o "$probe.$$" "$root/tools/guest/host-probe.c" && mv "$probe.$$" "$probe"
    fi
    if [ -x "$probe" ]; then
        read -r tsc_khz kvm < <(timeout 30 "$probe") ||
            die "$probe did not end within 30 s, or crashed: /dev/kvm is broken" "see dmesg"
    else    # without a compiler: good enough for the clock, and no claim about KVM
        tsc_khz=$(awk -F'[ .]+' '/cpu MHz/ { printf "%d%s", $(NF-1), substr($NF "000", 1, 3); exit }' /proc/cpuinfo)
        kvm=missing
    fi
}

# choose_kernel: sets kernel, kernel_image and kernel_initrd
choose_kernel() {
    local tailored name
    tailored=$(lab_kernel_dir)/vmlinux
    [ -n "$kernel" ] || { [ -e "$tailored" ] && kernel=tailored || kernel=debian; }
    case $kernel in
        tailored)
            [ -e "$tailored" ] || die "the lab's own kernel is not built" "tools/lab kernels"
            kernel_image=$tailored
            kernel_initrd=$(initramfs lab "${tailored%vmlinux}inox_ud.ko")
            ;;
        debian | debian-6.1 | debian-6.12 | debian-7.x)
            name=${kernel#debian}
            name=${name#-}
            name=${name:-6.12}
            kernel_image=$(elf_of "$name")
            kernel_initrd=$(initramfs lab "$(debian_lab_kernel "$name")")
            ;;
        *)
            die "no lab kernel is called '$kernel'" \
                "--kernel tailored, debian-6.1, debian-6.12 (or debian) or debian-7.x"
            ;;
    esac
}

# machine_args DIR: sets args. The reasons for the CPU's missing features, for tsc_early_khz and for the tick that comes
# by itself (highres, nohz) stand in docs/lab.md.
machine_args() {
    local dir=$1 clock="tsc_early_khz=$tsc_khz tsc=reliable no_timer_check highres=off nohz=off"
    local cpu=EPYC-v3,+svm,+npt
    [ "$qemu_version" -ge 1000 ] || cpu+=,-xsave,-avx,-avx2,-f16c
    args=(-accel "tcg,thread=multi" -M q35 -cpu "$cpu" -smp "$smp" -m "$memory"
        -nodefaults -display none -monitor none -no-reboot -serial "file:$dir/serial.log"
        -device "isa-debug-exit,iobase=0xf4,iosize=1")
    iommu_args
    share_args host / readonly=on
    [ -z "$out" ] || share_args out "$out"
    channel_args "$dir"
    local number=0 device
    for device in "${devices[@]}"; do
        number=$((number + 1))
        device_args "$device" "$number" "$dir"
    done
    args+=(-kernel "$kernel_image" -initrd "$kernel_initrd" -append
        "console=ttyS0 panic=-1 quiet $clock lab=$dir $kernel_args")
}

# First among the devices: QEMU puts what comes later behind it
iommu_args() {
    local options=
    [[ $iommu != *,* ]] || options=,${iommu#*,}
    if [ "$qemu_version" -ge 1100 ]; then # it has other names for them
        options=${options//x-scalable-mode=/scalable-mode=}
        options=${options//x-flts=/fsts=}
        options=${options//x-pasid-mode=on/pasid-bits=20}
    fi
    case ${iommu%%,*} in
        vtd) args+=(-device "intel-iommu,intremap=on$options") ;;
        amd)
            [ "$qemu_version" -lt 1100 ] || options+=,dma-remap=on
            args+=(-device "amd-iommu,intremap=on$options")
            ;;
        virtio) args+=(-device "virtio-iommu-pci$options") ;;
        none) ;;
        *) die "no IOMMU is called '${iommu%%,*}'" "--iommu vtd, virtio, amd or none" ;;
    esac
}

# share_args TAG PATH [OPTION]
share_args() {
    args+=(-fsdev "local,id=$1,path=${2//,/,,},security_model=none,multidevs=remap${3:+,$3}"
        -device "virtio-9p-pci,fsdev=$1,mount_tag=$1")
}

# Channels 1 to 5 of one virtio-serial device: stdout, stderr, the status, the kernel log, signs of life; console 0 when
# on a terminal
channel_args() {
    local number=0 name
    args+=(-device virtio-serial-pci)
    if [ -n "${terminal:-}" ]; then
        args+=(-chardev "stdio,id=terminal,signal=off,mux=on" -device "virtconsole,chardev=terminal,nr=0")
    fi
    for name in stdout stderr status dmesg.log alive; do
        number=$((number + 1))
        args+=(-chardev "file,id=c$number,path=$1/$name" -device "virtserialport,chardev=c$number,nr=$number")
    done
}

# device_args NAME[=VALUE] NUMBER DIR
device_args() {
    local n=$2
    case $1 in
        nvme | nvme=*)
            local image=${1#nvme}
            image=${image#=}
            args+=(-drive "if=none,id=d$n,format=raw,file=${image:-$(make_disk "$3/disk$n")}"
                -device "nvme,drive=d$n,serial=lab$n")
            ;;
        nvme-sriov)
            local functions=sriov_max_vfs=2,sriov_vq_flexible=4,sriov_vi_flexible=2
            args+=(-device "pcie-root-port,id=rp$n,chassis=$n" -device "nvme-subsys,id=ss$n"
                -device "nvme,serial=lab$n,subsys=ss$n,bus=rp$n,max_ioqpairs=6,msix_qsize=5,$functions")
            ;;
        e1000e) args+=(-netdev "user,id=n$n" -device "e1000e,netdev=n$n") ;;
        edu) args+=(-device edu) ;;
        mtty) ;; # the kernel's own: tools/guest/lab-run.sh
        testdev) args+=(-device pci-testdev) ;;
        ivshmem) args+=(-object "memory-backend-ram,id=sh$n,size=1M,share=on" -device "ivshmem-plain,memdev=sh$n") ;;
        vnet) args+=(-netdev "user,id=n$n" -device "virtio-net-pci,iommu_platform=on,disable-legacy=on,netdev=n$n") ;;
        rp) args+=(-device "pcie-root-port,id=rp$n,chassis=$n" -device "edu,bus=rp$n") ;;
        bridge)
            args+=(-device "pcie-root-port,id=rp$n,chassis=$n" -device "pcie-pci-bridge,id=br$n,bus=rp$n"
                -device "edu,bus=br$n,addr=1" -netdev "user,id=n$n" -device "e1000,netdev=n$n,bus=br$n,addr=2")
            ;;
        *)
            die "no lab device is called '$1'" \
                "one of nvme nvme-sriov e1000e edu mtty testdev ivshmem vnet rp bridge"
            ;;
    esac
}

# make_disk FILE: 16 MiB whose contents every test can name; prints the path
make_disk() {
    seq 1 3000000 2>/dev/null | head -c 16777216 >"$1" || true     # seq ends by SIGPIPE
    echo "$1"
}

show_status() {
    local name dir
    probe_host
    echo "cache            $cache ($(du -sh "$cache" 2>/dev/null | cut -f1 || true))"
    echo "this /dev/kvm    $kvm"
    echo "QEMU host        $(qemu-system-x86_64 --version 2>/dev/null | head -n 1 || true)"
    for name in $qemu_names; do
        dir=$cache/qemu/$name
        [ ! -e "$dir/package" ] ||
            printf 'QEMU %-11s %s (%s)\n' "$name" "$(cat "$dir/package")" "$(du -sh "$dir" | cut -f1)"
    done
    dir=$(lab_kernel_dir)
    if [ -e "$dir/vmlinux" ]; then echo "lab kernel       tailored: $dir/vmlinux"
    else echo "lab kernel       Debian's 6.12 (tools/lab kernels builds a quicker one)"; fi
    for name in $kernel_names 7.x; do
        dir=$(kernel_dir "$name")
        [ -e "$dir/package" ] || continue
        printf 'kernel %-9s %s (%s)\n' "$name" "$(cat "$dir/package")" "$(du -sh "$dir" | cut -f1)"
        dir=$(lab_kernel_with_modules "$dir")
        [ ! -e "$dir/package" ] || echo "  in the lab     with iommufd and more ($(du -sh "$dir" | cut -f1))"
    done
    dir=$cache/gcc/14
    [ ! -e "$dir/package" ] || echo "their compiler   $(cat "$dir/package") ($(du -sh "$dir" | cut -f1))"
}
