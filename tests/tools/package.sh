#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# package.sh BUILD_FOLDER VERSION: what `cmake --install` puts into an empty prefix, and what cpack packs: every file
# and its mode, and that the installed program runs. Whoever does it may have a umask that hides files from others.
set -uo pipefail
umask 077
build=$1 version=$2
source=$(cd "$(dirname "$(readlink -f "$0")")/../.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=0

# expect WHAT WANTED GOT
expect() {
    if [ "$2" = "$3" ]; then
        echo "PASS $1"
    else
        echo "FAIL $1: wanted < got >"
        diff <(printf '%s\n' "$2") <(printf '%s\n' "$3")
        failed=1
    fi
}

# Mode and path of each file, for a program in bin/
wanted() {
    echo "755 $1bin/inox"
    local command
    for command in '' -run -test -check -host -jail -ps -ctl -exec -snapshot -template; do
        echo "644 $1share/man/man1/inox$command.1.gz"
    done
    echo "644 $1share/bash-completion/completions/inox"
    echo "644 $1share/zsh/vendor-completions/_inox"
    (cd "$source" && printf "644 $1share/doc/inox/%s\n" README.md SECURITY.md CHANGELOG.md LICENSE docs/* configs/*)
}

cmake --install "$build" --prefix "$scratch/prefix" >"$scratch/log" 2>&1 ||
    { cat "$scratch/log"; echo "FAIL cmake --install"; exit 1; }
expect "installed files and their modes" "$(wanted '' | sort)" \
    "$(cd "$scratch/prefix" && find . -type f -printf '%m %P\n' | sort)"
expect "modes of installed folders" 755 "$(find "$scratch/prefix/share/doc/inox" -type d -printf '%m\n' | sort -u)"
expect "a link that is Firecracker's jailer" "Jailer" \
    "$("$scratch/prefix/bin/inox-jailer" --version 2>&1 | cut -d' ' -f1)"
expect "the installed program runs" "inox $version" "$("$scratch/prefix/bin/inox" --version 2>&1)"

# completed WORD...: what bash offers for the last of them
completed() {
    PATH=$scratch/prefix/bin:$PATH XDG_RUNTIME_DIR=$scratch bash --norc -c '
        . "$1"; shift
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); _inox
        printf "%s\n" "${COMPREPLY[@]}"' bash "$scratch/prefix/share/bash-completion/completions/inox" "$@"
}
program=$scratch/prefix/bin/inox
expect "bash completes commands" "run" "$(completed inox ru)"
commands=$("$program" nonsense 2>&1 | sed -n 's/.*the commands are //p' | sed 's/,//g; s/ and / /')
expect "bash knows every command" "$(tr ' ' '\n' <<<"$commands" | sort | xargs)" \
    "$(completed inox '' | grep -v -- - | sort | xargs)"
for command in run check host jail ps exec test snapshot template; do
    expect "bash completes every option of inox $command" \
        "$("$program" $command --help | grep -oE '^  (-.,)?--[a-z0-9-]+' | grep -oE -- '--.*' | sort)" \
        "$(completed inox $command -- | sort)"
done
expect "bash completes commands of inox ctl" "pause" "$(completed inox ctl vm1 pau)"
mkdir "$scratch/files"
touch "$scratch/files/bzImage"
expect "bash completes files for an option that takes one" "$scratch/files/bzImage" \
    "$(completed inox run --kernel "$scratch/files/b")"
expect "and nothing for one that takes a number" "" "$(completed inox run --cpus '')"
! command -v zsh >/dev/null || expect "zsh reads its completion" "" \
    "$(zsh -n "$scratch/prefix/share/zsh/vendor-completions/_inox" 2>&1)"
for page in "$scratch"/prefix/share/man/man1/*.gz; do
    ! command -v man >/dev/null || expect "man reads ${page##*/}" "" \
        "$(LC_ALL=C.UTF-8 MANROFFSEQ='' MANWIDTH=100 man --warnings -E UTF-8 -l -Tutf8 -Z "$page" 2>&1 >/dev/null)"
done
expect "the page of inox run has its options" 1 \
    "$(zcat "$scratch/prefix/share/man/man1/inox-run.1.gz" | grep -c 'expect" " REGEX')"

command -v dpkg >/dev/null || { echo "no dpkg here: cpack is not tried"; exit "$failed"; }
cpack --config "$build/CPackConfig.cmake" -B "$scratch/packages" >"$scratch/log" 2>&1 ||
    { cat "$scratch/log"; echo "FAIL cpack"; exit 1; }
tar=$(find "$scratch/packages" -maxdepth 1 -name '*.tar.gz')
deb=$(find "$scratch/packages" -maxdepth 1 -name '*.deb')
expect "one tar file and one Debian package" \
    "inox-$version-Linux.tar.gz inox_${version}_$(dpkg --print-architecture).deb" \
    "$(basename "$tar") $(basename "$deb")"

# listed: `tar -tv` to mode and path of each file, without the first ./, and the owner
listed() { awk '/^-/ { sub("^[.]/", "", $6); print $1, $2, $6 }'; }
as_tar() { wanted "$1" | sed -E 's,^755,-rwxr-xr-x root/root,; s,^644,-rw-r--r-- root/root,' | sort; }
expect "files of the Debian package, and their modes and owner" "$(as_tar usr/)" \
    "$(dpkg-deb --fsys-tarfile "$deb" | tar -tv | listed | sort)"
expect "files of the tar file" \
    "$({ wanted "inox-$version-Linux/usr/" | cut -d' ' -f2; echo "inox-$version-Linux/usr/bin/inox-jailer"; } | sort)" \
    "$(tar -tf "$tar" | grep -v '/$' | sort)"
expect "the package's name and version" "inox $version" \
    "$(dpkg-deb -f "$deb" Package Version | awk '{ print $2 }' | xargs)"
expect "modes of the Debian package's folders" drwxr-xr-x \
    "$(dpkg-deb --fsys-tarfile "$deb" | tar -tv | awk '/^d/ && $6 != "./" { print $1 }' | sort -u)"
tar -xf "$tar" -C "$scratch"
packed=$scratch/inox-$version-Linux/usr/bin/inox
expect "the tar file's program is stripped" 0 "$(nm "$packed" 2>/dev/null | wc -l)"
! grep -q 'INOX_STATIC:BOOL=ON' "$build/CMakeCache.txt" ||
    expect "and needs no library" 0 "$(readelf -d "$packed" | grep -c NEEDED)"
dpkg-deb -x "$deb" "$scratch/unpacked"
expect "the Debian package's jailer" inox "$(readlink "$scratch/unpacked/usr/bin/inox-jailer")"
expect "the packed program is hardened" "" \
    "$("$source/tests/tools/hardening.sh" "$build" "$scratch/unpacked/usr/bin/inox" | grep FAIL)"
expect "the packed program runs" "inox $version" "$("$scratch/unpacked/usr/bin/inox" --version 2>&1)"
exit "$failed"
