# SPDX-License-Identifier: Apache-2.0
# A client written for Firecracker, from npm and as it is, drives a guest from configuration to its end.
. "$(dirname "$0")/lib.sh"
. "$source/tools/lib/common.sh"
. "$source/tools/lib/packages.sh"

guests=$(dirname "$inox")/tests/kvm/guests
[ -w /dev/kvm ] && [ -e "$guests/echo" ] || { echo 'skipped: no /dev/kvm or no guests'; exit 77; }
command -v node >/dev/null || { echo 'skipped: node is missing'; exit 77; }
# INOX_FIRECRACKERODE_DIR: a folder that has node_modules/firecrackerode already
package=${INOX_FIRECRACKERODE_DIR:-}
[ -n "$package" ] || package=$(node_package "${node_client[@]}" 2>"$scratch/why") ||
    { echo "skipped: $(cat "$scratch/why")"; exit 77; }

mkfifo "$scratch/input"
exec 8<>"$scratch/input"
truncate -s 1M "$scratch/disk"
"$inox" --api-sock "$scratch/sock" --id node >"$scratch/serial" 2>"$scratch/log" <"$scratch/input" &
vmm=$!
trap 'kill "$vmm" 2>/dev/null; rm -rf "$scratch"' EXIT
cat >"$scratch/drive.js" <<END
const fs = require('fs');
const Firecracker = require('$package/node_modules/firecrackerode');
const firecracker = new Firecracker({socketPath: '$scratch/sock'});
const state = (state) => new Promise((resolve, reject) => firecracker.modem.dial(
    {path: '/vm', method: 'PATCH', data: {state}, statusCodes: {204: true, 400: 'bad'}},
    (error) => error ? reject(error) : resolve()));
const until = async (what, condition) => {
    for (let i = 0; !condition(); i++) {
        if (i === 6000) throw new Error('waited a minute for ' + what);
        await new Promise((r) => setTimeout(r, 10));
    }
};
const shown = (text) => until(text, () => fs.readFileSync('$scratch/serial', 'latin1').includes(text));
(async () => {
    await until('the socket', () => fs.existsSync('$scratch/sock'));
    const refused = await firecracker.bootSource({kernel_image_path: '/nonexistent'})
        .then(() => 'taken', (e) => e.message);
    if (!refused.includes('The kernel file cannot be opened')) throw new Error(refused);
    await firecracker.bootSource(
        {kernel_image_path: '$guests/echo', boot_args: 'console=ttyS0 reboot=k panic=1 pci=off'});
    await firecracker.drive('rootfs').updatePreboot(
        {drive_id: 'rootfs', path_on_host: '$scratch/disk', is_root_device: true, is_read_only: false});
    await firecracker.action('InstanceStart');
    fs.writeSync(8, 'a');
    await shown('A');
    await state('Paused');
    await state('Resumed');
    fs.writeSync(8, 'b.');
    console.log('driven');
})().catch((error) => { console.log(error); process.exit(1); });
END
accepted driven node "$scratch/drive.js"
await "$vmm" 'the VMM'
checks=$((checks + 1))
[ "$code" = 7 ] && grep -q AB "$scratch/serial" || fail 'the guest should have answered and ended with 7'
finish
