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
