#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the host says of devices to assign, the pre-flight of every way that goes wrong, and the VFIO layer alone on a
real kernel, by both interfaces.

    vfio_host.py INOX PROBE
"""
import json, os, pathlib
import lab
from lab import Guest, check, checks, expect, expect_match, expect_same

CONFIG = "/tmp/vm.json"
NVME, EDU, BRIDGED_CARD = "1b36:0010", "1234:11e8", "8086:100e"


def outside(inox, probe):
    # The width is QEMU's choice: 39 or, in newer ones, 48
    for part, *options in (["devices", "--iommu", "vtd,aw-bits=39", "--device", "nvme", "--device", "edu", "--device",
                            "bridge", "--device", "rp"],
                           ["no IOMMU", "--iommu", "none", "--device", "edu"],
                           ["unsafe interrupts", "--iommu", "virtio", "--device", "edu"]):
        lab.enter("--nested", "--timeout", "600", *options, inox=inox, probe=probe, part=part)


def inside(inox, probe, part):
    host = Host(inox, probe)
    if part == "devices":
        checks(part, host.a_device_of_another_driver_is_refused_by_name, host.its_bind_commands_make_it_assignable,
               host.a_forbidden_group_file_is_told, host.too_little_memory_to_lock_is_told_with_the_number,
               host.no_such_device_is_told)
        for backend in lab.backends():
            check(part, host.the_layer_works_with_NVMe, backend)
            check(part, host.the_layer_works_with_each_edu, backend)
        check(part, host.huge_pages_stay_huge_in_the_IOMMU)
        for backend in lab.backends():
            check(part, host.a_held_device_is_in_use_and_free_once_its_holder_is_killed, backend)
        check(part, host.a_group_works_once_all_its_devices_are_bound)
    elif part == "no IOMMU":
        check(part, host.no_IOMMU_is_told)
    else:
        check(part, host.interrupts_that_are_not_isolated_are_told)


class Host:
    def __init__(self, inox, probe):
        self.inox, self.probe = inox, probe

    def sees(self, device):
        """What inox host says of a device; nothing while it is in no group: some kernels wait for a driver"""
        groups = json.loads(lab.output(self.inox, "host", "--json"))["iommu"]["groups"]
        return next((seen for group in groups for seen in group["devices"] if seen["address"] == device), {})

    def bind(self, device):
        for command in self.sees(device).get("bind_commands", "").replace("sudo ", "").splitlines():
            lab.output("sh", "-c", command)
        if not self.sees(device):
            lab.bind(device)

    def refused(self, device, status, text, *before):
        """inox check of a guest with this device; `before` goes before the command"""
        lab.write(CONFIG, json.dumps({"vfio": [{"host": device}]}))
        done = lab.run(*before, self.inox, "check", CONFIG)
        expect((status is None or done.returncode == status) and text in done.stdout,
               f"status {done.returncode}: {done.stdout}")

    def probed(self, *words):
        """What the probe does with a device: all of it"""
        text = lab.output(self.probe, *words)
        expect_match("^PASS", text)
        return text

    def a_device_of_another_driver_is_refused_by_name(self):
        nvme, = lab.pci_devices(NVME)
        self.refused(nvme, 92, "bound to the driver nvme")
        seen = self.sees(nvme)
        expect_same((seen["driver"], seen["assignable"]), ("nvme", False))

    def its_bind_commands_make_it_assignable(self):
        nvme, = lab.pci_devices(NVME)
        self.bind(nvme)
        seen = self.sees(nvme)
        expect_same([seen[key] for key in ("driver", "assignable", "msix_vectors", "address_bits")],
                    ["vfio-pci", True, 65, 39])
        expect("flr" in seen["reset_methods"], seen)
        self.refused(nvme, 0, "")

    def as_user(self, device, text, *before):
        """A user without rights"""
        self.refused(device, None, text, *before, "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
                     "--inh-caps=-all", "--bounding-set=-all")

    def a_forbidden_group_file_is_told(self):
        self.as_user(lab.pci_devices(NVME)[0], "[vfio_denied]")

    def too_little_memory_to_lock_is_told_with_the_number(self):
        nvme, = lab.pci_devices(NVME)
        os.chmod(f"/dev/vfio/{self.group(nvme)}", 0o666)
        self.as_user(nvme, "needs 131072 KiB of locked memory", "prlimit", f"--memlock={8192 << 10}")
        self.as_user(nvme, "8192 KiB", "prlimit", f"--memlock={8192 << 10}")

    def group(self, device):
        return os.path.basename(os.readlink(f"/sys/bus/pci/devices/{device}/iommu_group"))

    def no_such_device_is_told(self):
        self.refused("0000:7f:1f.7", 121, "there is no PCI device")

    def the_layer_works_with_NVMe(self, backend):
        self.probed(lab.pci_devices(NVME)[0], backend)

    def the_layer_works_with_each_edu(self, backend):
        """DMA, interrupts and reset on the root bus, behind a bridge and behind a root port"""
        used = []
        for edu in lab.pci_devices(EDU):
            self.bind(edu)
            if self.sees(edu)["assignable"]:    # else its group is not viable yet: below
                self.probed(edu, backend)
                used.append(edu)
        lab.note(f"edu by {backend}: {used}")
        expect(len(used) >= 2, f"of {lab.pci_devices(EDU)} only {used} can be assigned")

    def huge_pages_stay_huge_in_the_IOMMU(self):
        lab.write("/proc/sys/vm/nr_hugepages", "260")
        text = self.probed(lab.pci_devices(EDU)[0], "container", "2M")
        lab.write("/proc/sys/vm/nr_hugepages", "0")
        if os.path.isdir("/sys/kernel/debug/iommu/intel"):
            expect_match("each of 2 MiB", text)
        else:
            lab.note("this kernel does not show the IOMMU's page tables")

    def a_held_device_is_in_use_and_free_once_its_holder_is_killed(self, backend):
        edu = lab.pci_devices(EDU)[0]
        holder = Guest(self.probe, edu, backend, "hold")
        holder.wait_for("holding", 200)
        expect_match(r"\[in_use\]", lab.run(self.probe, edu, backend).stdout)
        holder.kill()
        self.probed(edu, backend)

    def a_group_works_once_all_its_devices_are_bound(self):
        """Two devices behind one bridge"""
        card, = lab.pci_devices(BRIDGED_CARD)
        edu, = (edu for edu in lab.pci_devices(EDU) if self.group(edu) == self.group(card))
        if pathlib.Path("/sys/bus/pci/devices", card, "driver").exists():
            self.refused(edu, 93, f"{card} of the same group is used by the driver")
        self.bind(card)
        expect(self.sees(edu)["assignable"], "the group is not viable")
        self.probed(edu, "container")

    def no_IOMMU_is_told(self):
        expect_match("the kernel shows no IOMMU group", lab.output(self.inox, "host", env={"NO_COLOR": "1"}))
        self.refused(lab.pci_devices(EDU)[0], None, "[iommu_missing]")

    def interrupts_that_are_not_isolated_are_told(self):
        """When the device opens; behind a virtio-iommu the operator may allow them"""
        edu, = lab.pci_devices(EDU)
        self.bind(edu)
        expect_match(r"\[iommu_unsafe\]", lab.run(self.probe, edu, "container").stdout)
        lab.write("/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts", "1")
        self.probed(edu, "container")


lab.main(outside, inside)
