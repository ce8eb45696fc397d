#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs a command that needs /dev/kvm; tells ctest to skip (77), with the reason, where there is none.
if ! [ -e /dev/kvm ]; then
    echo "skipped: no /dev/kvm on this machine"
    exit 77
fi
if ! [ -r /dev/kvm ] || ! [ -w /dev/kvm ]; then
    echo "skipped: no permission on /dev/kvm"
    exit 77
fi
exec "$@"
