# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Packages of newer Debian suites: fetched and unpacked into the cache, never installed; the host's own package lists
# stay as they are. Needs common.sh.

# suite_apt SUITE COMMAND...: apt-get, or apt-cache where the command is one of its, with that suite's lists
suite_apt() {
    local suite=$1 tool=apt-get base=$cache/apt/$1 options
    shift
    options=(-o "Dir::Etc::SourceList=$base/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null
        -o "Dir::State=$base" -o "Dir::State::Lists=$base/lists" -o "Dir::State::Status=$base/status"
        -o "Dir::Cache=$base/cache" -o APT::Architecture=amd64 -o APT::Architectures=amd64
        -o Acquire::Languages=none -o "APT::Default-Release=$suite")
    [ "$(id -u)" != 0 ] || options+=(-o APT::Sandbox::User=root)
    # Of the lists themselves the time is the archive's
    [ -n "$(find "$base/fetched" -mtime -7 2>/dev/null)" ] ||
        with_lock "apt-$suite" suite_lists "$suite" "${options[@]}" || return
    case $1 in search | depends) tool=apt-cache ;; esac
    timeout 1800 "$tool" "${options[@]}" "$@"
}

# suite_lists SUITE OPTION...: fetches the suite's lists, from the mirror that this host's apt uses
suite_lists() {
    local suite=$1 base=$cache/apt/$1 mirror signed
    shift
    signed='[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]'
    # shellcheck disable=SC2016  # apt's own variable
    mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 2>/dev/null |
        grep -E '/debian/?$' | sort -u | head -n 1)
    [ -n "$mirror" ] ||
        die "apt knows no mirror of Debian here" "add one to /etc/apt/sources.list, and run apt-get update"
    say "fetching the package lists of Debian's $suite"
    mkdir -p "$base"/{lists/partial,cache/archives/partial}
    : >"$base/status"
    {
        echo "deb $signed $mirror $suite main"
        [[ $suite != *-backports ]] || echo "deb $signed $mirror ${suite%-backports} main"
    } >"$base/sources.list"
    timeout 600 apt-get "$@" update -qq --error-on=any >&2 ||
        die "the package lists of $suite could not be fetched" "check the network, then run the same command again"
    touch "$base/fetched"
}

# suite_download SUITE DIR PACKAGE...: their .deb files into DIR
suite_download() {
    local suite=$1 dir=$2
    shift 2
    (cd "$dir" && suite_apt "$suite" download -qq "$@" >&2) ||
        die "these packages of $suite could not be fetched: $*" "check the network, then run the same command again"
}

# suite_tree SUITE DIR PROGRAM PACKAGES SIZE: PACKAGES (a list of names) and what they need, as if only Python and Perl
# were installed, unpacked into DIR on first use; PROGRAM (a path in it) tells whether it is there. DIR/package names
# what they are.
suite_tree() {
    sums_hold "$2" "$3" || with_lock "tree-${2##*/}" fetch_suite_tree "$@"
}

fetch_suite_tree() {
    local suite=$1 dir=$2 program=$3 package packages tmp deb
    ! sums_hold "$dir" "$program" || return 0 # another was quicker
    read -ra packages <<<"$4"
    say "fetching ${packages[*]} from Debian's $suite (about $5; nothing is installed)"
    mkdir -p "${dir%/*}"
    scratch tmp "${dir%/*}"
    suite_apt "$suite" -y -qq --no-install-recommends --print-uris install "${packages[@]}" |
        sed -n "s/^'[^']*' \([^_ ]*\)_.*/\1/p" |
        grep -vE '^(base-|dpkg|apt|perl|python[0-9.]*(-minimal)?$|debconf)' >"$tmp/packages"
    mkdir "$tmp"/{debs,tree}
    # shellcheck disable=SC2046  # a list of names
    suite_download "$suite" "$tmp/debs" $(cat "$tmp/packages")
    for deb in "$tmp"/debs/*.deb; do
        dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$tmp/tree" --no-same-owner \
            --exclude='./usr/share/doc*' --exclude='./usr/share/man*' --exclude='./usr/share/locale*'
    done
    for package in "${packages[@]}"; do basename "$tmp/debs/$package"_*.deb; done >"$tmp/tree/package"
    (cd "$tmp/tree" && find . -type f -printf '%P\n' | sort | xargs -d '\n' sha256sum >"$tmp/sums") &&
        mv "$tmp/sums" "$tmp/tree/SHA256SUMS"
    rm -rf "$dir"
    mv "$tmp/tree" "$dir"
}

# by_loader DIR: sets loader: the words before a program that run it with the libraries of that tree
by_loader() {
    loader=("$1/usr/lib64/ld-linux-x86-64.so.2" --library-path "$1/usr/lib/x86_64-linux-gnu")
}
