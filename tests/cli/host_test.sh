# SPDX-License-Identifier: Apache-2.0
# inox host, and the errors of a host without KVM or without permission.
. "$(dirname "$0")/lib.sh"

accepted '/dev/kvm' "$inox" host
accepted 'translation table' "$inox" host
for key in kvm present usable interpreting million_instructions_per_second capabilities memory tun vfio iommufd iommu \
    enqcmd findings; do
    accepted "\"$key\":" "$inox" host --json
done
if [ -w /dev/kvm ]; then
    accepted '"present": true' "$inox" host --json
fi
refused 119 output_unwritable 'standard output' '' sh -c "'$inox' host >/dev/full"

# As seen from a machine that has none: a private mount namespace with an empty /dev.
bare_dev='mount -t tmpfs none /dev && exec "$@"'
if unshare --mount sh -c "$bare_dev" sh true 2>/dev/null; then
    refused 115 kvm_missing '/dev/kvm' 'modprobe' unshare --mount sh -c "$bare_dev" sh "$inox" run
    accepted '/dev/kvm does not exist' unshare --mount sh -c "$bare_dev" sh "$inox" host
    accepted '"present": false' unshare --mount sh -c "$bare_dev" sh "$inox" host --json
    # And with a device that only its group may use.
    denied='mount -t tmpfs none /dev && touch /dev/kvm && chgrp 54321 /dev/kvm && chmod 660 /dev/kvm &&
        exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"'
    cp "$inox" "$scratch/inox" && chmod 755 "$scratch" "$scratch/inox"
    refused 116 kvm_denied '/dev/kvm' 'join the group 54321' unshare --mount sh -c "$denied" sh "$scratch/inox" run
    accepted 'join the group' unshare --mount sh -c "$denied" sh "$scratch/inox" host
    closed=${denied/chmod 660/chmod 600}
    refused 116 kvm_denied '/dev/kvm' 'its group may not write to it' \
        unshare --mount sh -c "$closed" sh "$scratch/inox" run
    accepted 'its group may not write to it' unshare --mount sh -c "$closed" sh "$scratch/inox" host
else
    echo 'not checked: a host without /dev/kvm, for lack of the right to make a mount namespace'
fi
finish
