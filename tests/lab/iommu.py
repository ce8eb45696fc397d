#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Debian's 6.12 kernel has every device behind inox's virtio-iommu, with strict DMA: it reads and writes a disk through
it, gives another disk and an assigned device (QEMU's edu) to drivers in its own user space (vfio-pci), hears of a fault
that is provoked, and reboots with all of that attached; the next boot has its root file system on a disk behind the
IOMMU. One start of the lab. An assigned NVMe disk behind it is in vfio.py.

    iommu.py INOX
"""
import os, re
import lab
from lab import Guest, check, checks, expect, expect_match, expect_same, read, said, shell_words

BAD_ADDRESS = "0xdead000"
SOCKET, CONSOLE = "/tmp/api", "/tmp/console"
COMPLAINTS = "dmesg | grep -E 'WARNING: CPU|BUG:|Oops|I/O error' | sed 's/^/complaint /'"

# The init of a small system on the second guest's disk
INIT = f"""#!/bin/sh
/bin/busybox --install -s /bin
exec >/dev/hvc0
echo "root $(awk '$2 == "/" {{ print $1, $3, substr($4, 1, 2) }}' /proc/mounts)"
echo "strict $(cat /sys/block/vda/device/../iommu_group/type)"
echo "noise $(sha256sum </etc/noise | cut -d' ' -f1)"
head -c 4000000 /dev/urandom >/etc/new && sync
sum=$(sha256sum </etc/new)
echo 3 >/proc/sys/vm/drop_caches
for d in /sys/bus/pci/devices/*; do [ "$(cat $d/device)" != 0x11e8 ] || echo "edu yes"; done
[ "$sum" = "$(sha256sum </etc/new)" ] && echo "kept yes"
{COMPLAINTS}
mount -o remount,ro / && echo "clean yes"
reboot -f
"""

# What the first guest does. Its third disk holds the program for the nested driver.
LINE = f"""
echo "strict $(cat /sys/bus/pci/devices/0000:00:02.0/iommu_group/type)"
for d in /sys/bus/pci/devices/*; do
    case $d in
        *:00:00.[01] | *:00:01.0) ;;
        *) [ ! -e $d/driver ] || [ -e $d/iommu_group ] || echo "bare ${{d##*/}}" ;;
    esac
done
echo "reserved $(cat /sys/bus/pci/devices/0000:00:02.0/iommu_group/reserved_regions)"
echo "read $(sha256sum </dev/vda | cut -d' ' -f1)"
dd if=/dev/urandom of=/tmp/w bs=1M count=4 2>/dev/null
dd if=/tmp/w of=/dev/vda bs=256k oflag=direct 2>/dev/null && sync
echo 3 >/proc/sys/vm/drop_caches
[ "$(head -c 4194304 /dev/vda | sha256sum)" = "$(sha256sum </tmp/w)" ] && echo "written yes"
echo "random $(head -c 64 /dev/hwrng | wc -c)"
cat /dev/vdc >/tmp/vfio-user && chmod +x /tmp/vfio-user
modprobe -a vfio-pci vfio_iommu_type1
echo 1 >/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts
device=$(basename $(readlink -f /sys/block/vdb/device/..))
echo $device >/sys/bus/pci/drivers/virtio-pci/unbind
for edu in /sys/bus/pci/devices/*; do [ "$(cat $edu/device)" != 0x11e8 ] || break; done
for d in $device ${{edu##*/}}; do
    echo vfio-pci >/sys/bus/pci/devices/$d/driver_override
    echo $d >/sys/bus/pci/drivers_probe
    /tmp/vfio-user $d {BAD_ADDRESS}
done
sleep 4
dmesg | grep 'fault from EP' | sed 's/^.*virtio_iommu/guest log/'
echo "afterwards $(sha256sum </tmp/w | cut -c 1-8) $(head -c 4194304 /dev/vda | sha256sum | cut -c 1-8)"
{COMPLAINTS}
reboot -f
"""


def outside(inox):
    work = lab.work_directory("iommu")
    lab.random_file(work / "disk", 16000000)
    os.truncate(work / "disk", 24 << 20)
    lab.write(work / "nested", "".join(f"{number}\n" for number in range(4711, 100000))[:65536])
    lab.compiled(work / "vfio-user", "tools/guest/vfio-user.c")
    os.truncate(work / "vfio-user", -(-os.path.getsize(work / "vfio-user") // 512) * 512)
    noise = make_root_disk(work / "files", work / "root")
    lab.enter("--nested", "--smp", "1", "--memory", "2048", "--timeout", "1000", "--device", "edu",
              inox=inox, work=str(work), sum=lab.sha256(work / "disk"), noise=noise, kernel=lab.dev("kernel", "6.12"),
              initrd=lab.dev("initramfs", "6.12"))


def make_root_disk(files, image):
    """busybox, its init and a file whose sum is returned"""
    for name in ("bin", "dev", "etc", "proc", "sys", "sbin"):
        (files / name).mkdir(parents=True)
    lab.output("cp", "/bin/busybox", files / "bin/busybox")
    (files / "bin/sh").symlink_to("busybox")
    lab.write(files / "sbin/init", INIT)
    (files / "sbin/init").chmod(0o755)
    lab.random_file(files / "etc/noise", 8000000)
    lab.write(image, "")
    os.truncate(image, 40 << 20)
    lab.output("mke2fs", "-q", "-t", "ext4", "-O", "^metadata_csum", "-d", files, image)
    return lab.sha256(files / "etc/noise")


def inside(inox, work, sum, noise, kernel, initrd):
    edu = lab.bind(lab.pci_devices("1234:11e8")[0])
    lab.output("cp", "--sparse=always", f"{work}/root", "/tmp/root")
    lab.output("cp", f"{work}/disk", "/tmp/disk")
    command = [inox, "run", "--iommu", "--kernel", kernel, "--initrd", initrd, "--memory", "256M", "--timeout", "400s",
               "--console", CONSOLE, "--vfio", edu]
    Life("", command, shell_words(LINE, "hvc0"), "--disk", "path=/tmp/disk", "--disk",
         f"path={work}/nested,readonly=on", "--disk", f"path={work}/vfio-user,readonly=on", "--entropy",
         "--api-sock", SOCKET).with_a_provoked_fault(sum)
    Life("root on a disk behind the IOMMU", command, "root=/dev/vda rw",
         "--disk", "path=/tmp/root").from_its_disk(noise)


class Life:
    """A guest from start to end; what it says of itself comes by a console of its own."""

    def __init__(self, about, command, words, *options):
        lab.remove(CONSOLE)
        self.about, self.inox = about, command[0]
        self.guest = Guest(*command, *options, "--cmdline", f"console=ttyS0 quiet panic=-1 iommu.strict=1 {words}")
        self.guest.type_last()

    def with_a_provoked_fault(self, sum):
        checks(self.about, self.the_API_shows_the_fault_and_the_endpoints, self.the_guest_reboots)
        lab.check_said(self.about, read(CONSOLE), {
            "strict": "DMA",                        # each unmap reaches the IOMMU
            "bare": "",                             # every device with a driver is behind it
            "reserved": "0x00000000fee00000 0x00000000feefffff msi",
            "read": sum,
            "written": "yes",
            "random": "64",
            "nested read": "4711",                  # by a driver in the guest's user space, with an interrupt
            "nested fault": "stopped the device",
            "nested edu": "copied\nfault harmless", # the assigned device, with DMA and interrupts
            "complaint": ""})
        checks(self.about, self.the_guests_log_has_the_fault, self.inoxs_log_has_the_fault, self.nobody_else_suffers,
               self.inox_warns_of_nothing_else)

    def from_its_disk(self, noise):
        check(self.about, self.the_guest_reboots)
        lab.check_said(self.about, read(CONSOLE), {
            "root": "/dev/vda ext4 rw",
            "strict": "DMA",
            "noise": noise,
            "kept": "yes",
            "edu": "yes",                           # the device of the guest before is there again
            "complaint": ""})
        checks(self.about, self.no_access_is_refused, self.the_file_system_is_clean)

    def the_guest_reboots(self):
        expect_same(self.guest.finish(420), 0)

    def the_API_shows_the_fault_and_the_endpoints(self):
        """These with their domain and cache hits"""
        def look():
            expect(self.guest.process.poll() is None, "the VMM ended before the API showed the fault")
            tables = lab.run(self.inox, "ctl", "-s", SOCKET, "iommu").stdout
            return tables if BAD_ADDRESS in tables else None

        tables = lab.wait_until("the API shows the fault", 400, look, pause=0.5)
        expect_match(f" {BAD_ADDRESS} +w +no mapping", tables)
        expect_match("drive0.* attached +[0-9]+ +[1-9][0-9]* ", tables)

    def the_guests_log_has_the_fault(self):
        expect_match(rf"^guest log virtio[0-9]+: page fault from EP [0-9]+ at {BAD_ADDRESS} \[W\]", read(CONSOLE))

    def inoxs_log_has_the_fault(self):
        expect_match(rf"endpoint 0000:00:0[0-9]\.0 may not write {BAD_ADDRESS}: no mapping", self.guest.errors())

    def nobody_else_suffers(self):
        written, found = said(read(CONSOLE), "afterwards").split()
        expect_same(found, written)

    def inox_warns_of_nothing_else(self):
        """But of the faults that were provoked, and of edu, which has no reset"""
        warnings = re.findall("^inox: (?:WARN|ERROR).*", self.guest.errors(), re.M)
        known = "IOMMU: endpoint|broke its ring|the state that its last user left"
        expect_same([warning for warning in warnings if not re.search(known, warning)], [])

    def no_access_is_refused(self):
        expect("no mapping" not in self.guest.errors(), "an access was refused")

    def the_file_system_is_clean(self):
        lab.output("e2fsck", "-fn", "/tmp/root")


lab.main(outside, inside)
