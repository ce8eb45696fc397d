# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Debian packages, by what needs them.

build_packages=(g++ cmake ninja-build libboost1.81-dev nlohmann-json3-dev libcli11-dev liburing-dev zlib1g-dev
    libarchive-dev liblzma-dev libzstd-dev libbz2-dev libfuse3-dev libseccomp-dev catch2 python3 python3-yaml)
test_packages=(python3 gdb qemu-system-x86 iproute2 e2fsprogs busybox-static gcc libc6-dev kmod xz-utils zstd lz4
    acpica-tools curl slurmctld slurmd slurm-client munge passt xfsprogs btrfs-progs erofs-utils fdisk)
lint_packages=(clang-format clang-tidy-19 shellcheck python3)
clang_packages=(clang-19 libclang-rt-19-dev) # the second build, and fuzzing

# A client of the API that one test drives
node_client=(firecrackerode 1.0.2)

# node_package NAME VERSION: prints the folder that holds node_modules/NAME, from the cache or from npm; status 1 and
# the reason on standard error when it cannot be had. Needs common.sh.
node_package() {
    local dir log
    # shellcheck disable=SC2154  # common.sh has it
    dir=$cache/node/$1-$2
    if [ ! -d "$dir/node_modules/$1" ]; then
        command -v npm >/dev/null || { echo "npm is missing" >&2; return 1; }
        mkdir -p "$dir"
        local install=(timeout 300 npm install --prefix "$dir" --no-audit --no-fund --ignore-scripts)
        log=$(cd "$dir" && "${install[@]}" "$1@$2" 2>&1) || {
            echo "npm could not install $1@$2: $(grep -m1 -E 'E?404|error' <<<"$log")" >&2
            return 1
        }
    fi
    echo "$dir"
}
