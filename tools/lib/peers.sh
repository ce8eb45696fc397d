# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# tools/lab peers: other programs use inox: debuggers read its dumps, and the kernel's own tests print what it reports.
# Needs common.sh, kernels.sh, modules.sh and suites.sh.

peer_parts="verdicts kselftest debuggers"

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
            debuggers)
                need gdb
                "$root/tests/peers/debuggers.py" "$inox" "$(drgn_program)" "$(crash_program)"
                ;;
        esac || { say "$part failed"; failed+=" $part"; }
    done
    [ -z "$failed" ] || die "failed:$failed" "the lines above say why"
}

# drgn_program: prints its path; from PyPI, because Debian 12's 0.0.22 knows neither dumps without virtual addresses nor
# Linux 6.12, as its crash does not (that of trixie does)
drgn_program() {
    local dir=$cache/peers/drgn-0.3.0
    if [ ! -x "$dir/bin/drgn" ]; then
        need python3-venv
        /usr/bin/python3 -m venv "$dir" && "$dir/bin/pip" install -q "drgn==${dir##*-}" >&2
    fi
    echo "$dir/bin/drgn"
}

# crash_program: prints the path of a script that runs trixie's crash by its own loader
crash_program() {
    local dir=$cache/peers/crash loader
    suite_tree trixie "$dir" usr/bin/crash crash "25 MB"
    by_loader "$dir"
    printf '#!/bin/sh\nexec %s"$@"\n' "$(printf '%q ' "${loader[@]}" "$dir/usr/bin/crash")" >"$dir/run"
    chmod +x "$dir/run"
    echo "$dir/run"
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
