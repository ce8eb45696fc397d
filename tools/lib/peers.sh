# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# tools/lab peers: other programs use inox: debuggers read its dumps, and the kernel's own tests print what it reports;
# and virtme-ng runs the same kernels beside it. Needs common.sh, kernels.sh, modules.sh and suites.sh.

peer_parts="verdicts kselftest debuggers times words bisect"

# peers [PART...]: fetches and builds what the parts need, and runs them, one after the other; fails if one fails
peers() {
    local part inox=$root/build/release/inox kernel failed=''
    # shellcheck disable=SC2086  # a list of names
    [ $# != 0 ] || set -- $peer_parts
    for part; do
        grep -qw -- "$part" <<<"$peer_parts" || die "peers has no part '$part'" "take some of: $peer_parts"
    done
    [ -x "$inox" ] || die "inox is not built" "tools/dev build"
    need busybox-static e2fsprogs
    kernel=$(guest_kernel)
    export INOX_TEST_GUEST_KERNEL=$kernel
    for part; do
        say "$part"
        case $part in
            verdicts) "$root/tests/lab/verdict.py" "$inox" ;;
            kselftest) "$root/tests/peers/kselftest.py" "$inox" "$(kselftests)" ;;
            times) "$root/tests/peers/times.py" "$inox" "$(virtme_tree)" ;;
            words) "$root/tests/peers/words.py" "$inox" "$(virtme_tree)" ;;
            bisect) bisect_kernels "$inox" ;;
            debuggers)
                need gdb
                "$root/tests/peers/debuggers.py" "$inox" "$(drgn_program)" "$(crash_program)"
                ;;
        esac || { say "$part failed"; failed+=" $part"; }
    done
    [ -z "$failed" ] || die "failed:$failed" "the lines above say why"
}

# drgn_program: prints its path; from PyPI, because Debian 12's 0.0.22 knows neither dumps without virtual addresses nor
# Linux 6.12, as its crash does not
drgn_program() {
    local dir=$cache/peers/drgn-0.3.0
    if [ ! -x "$dir/bin/drgn" ]; then
        need python3-venv
        /usr/bin/python3 -m venv "$dir" && "$dir/bin/pip" install -q "drgn==${dir##*-}" >&2
    fi
    echo "$dir/bin/drgn"
}

# crash_program: prints the path of a script that runs forky's crash by its own loader. That of trixie (8.0.6) fails on
# active tasks of kernels without X86_MCE or AMD_MEM_ENCRYPT: it reads the stack of each exception, also of those that
# such a kernel has none for.
crash_program() {
    local dir=$cache/peers/crash-9 loader
    suite_tree forky "$dir" usr/bin/crash crash "25 MB"
    by_loader "$dir"
    printf '#!/bin/sh\nexec %s"$@"\n' "$(printf '%q ' "${loader[@]}" "$dir/usr/bin/crash")" >"$dir/run"
    chmod +x "$dir/run"
    echo "$dir/run"
}

# virtme_tree: prints a folder with trixie's virtme-ng: run/ belongs in PATH, since run/vng starts what lies beside it.
# Debian leaves out the init in Rust that upstream's package of the same version has: it lies where vng looks for it,
# and --no-virtme-ng-init leaves it aside.
virtme_tree() {
    local dir=$cache/peers/virtme loader program version
    need file kmod python3-venv qemu-system-x86 udev
    suite_tree trixie "$dir" usr/bin/vng "virtme-ng virtiofsd" "25 MB"
    if [ ! -x "$dir/run/vng" ]; then
        version=$(sed -n 's/^virtme-ng_\([0-9.]*\)-.*/\1/p' "$dir/package")
        /usr/bin/python3 -m venv "$dir/venv"
        "$dir/venv/bin/pip" install -q --no-deps "virtme-ng==$version" >&2
        mkdir -p "$dir/usr/lib/python3/dist-packages/virtme/guest/bin" "$dir/run"
        mv "$dir"/venv/lib/python3*/site-packages/virtme/guest/bin/virtme-ng-init \
            "$dir/usr/lib/python3/dist-packages/virtme/guest/bin/"
        rm -rf "$dir/venv"
        # As an installed package is; the lab could not write it
        /usr/bin/python3 -m compileall -q "$dir/usr/lib/python3/dist-packages"
        by_loader "$dir"
        printf '#!/bin/sh\nexec %s"$@"\n' "$(printf '%q ' "${loader[@]}" "$dir/usr/libexec/virtiofsd")" \
            >"$dir/run/virtiofsd"
        chmod +x "$dir/run/virtiofsd"
        for program in virtme-run virtme-prep-kdir-mods vng; do ln -sf "../usr/bin/$program" "$dir/run/$program"; done
    fi
    echo "$dir"
}

kselftest_targets="size timers futex kcmp"

# kselftests: prints a folder with run_kselftest.sh: some of the tests in the source of Debian's 6.12, built on first
# use
kselftests() {
    local dir
    dir=$cache/kselftest-$({ echo "$kselftest_targets"; declare -f build_kselftests; } | sha256sum | head -c 12)
    [ -e "$dir/run_kselftest.sh" ] || with_lock kselftest build_kselftests "$dir"
    echo "$dir"
}

build_kselftests() {
    local dir=$1 tmp source
    [ ! -e "$dir/run_kselftest.sh" ] || return 0 # another process was quicker
    need gcc make rsync xz-utils
    scratch tmp "$cache"
    say "fetching linux-source-6.12 (about 150 MB), and building its tests: $kselftest_targets"
    download linux-source-6.12 "$tmp"
    dpkg-deb --fsys-tarfile "$tmp"/linux-source-6.12_*.deb | tar -xO ./usr/src/linux-source-6.12.tar.xz |
        tar -xJ -C "$tmp" --wildcards 'linux-source-6.12/[A-Z]*' '*/scripts' '*/tools' '*/include' '*/arch/x86' '*/usr'
    source=$tmp/linux-source-6.12
    {
        make -s -C "$source" headers &&
            make -s -C "$source/tools/testing/selftests" TARGETS="$kselftest_targets" INSTALL_PATH="$tmp/out" install
    } >"$tmp/log" 2>&1 || {
        tail -n 5 "$tmp/log" >&2
        die "the kernel's tests did not build" "the lines above say why"
    }
    rm -rf "$dir"
    mv "$tmp/out" "$dir"
}

# bisect_kernels INOX: the source and a build of the guest kernel go away once a bisection in it has passed
bisect_kernels() {
    local work=$cache/build-bisect
    need gcc make flex bison bc libelf-dev libssl-dev xz-utils zstd git
    fetch_kernel_source "$work"
    rm -rf "$work/linux-source-6.12/.git"
    if [ ! -e "$work/out/arch/x86/boot/bzImage" ]; then
        configure_guest_kernel "$work/linux-source-6.12" "$work/out" "$root/configs/guest.config"
        say "building the kernel that is bisected: 3 to 15 minutes on 2 cores, log in $work/build.log"
        timeout 4h make -C "$work/linux-source-6.12" O="$work/out" -j"$(nproc)" bzImage >"$work/build.log" 2>&1 &
        show_progress $! "$work/build.log" 2200
    fi
    "$root/tests/peers/bisect.py" "$1" "$work/linux-source-6.12" "$work/out" && rm -rf "$work"
}
