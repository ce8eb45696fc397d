# SPDX-License-Identifier: Apache-2.0
"""One Debian guest, described once, as a command line of inox or of QEMU."""
import dataclasses


@dataclasses.dataclass
class Machine:
    """What is not set is left out."""

    kernel: str
    initrd: str
    disk: str = ""
    cpus: int = 1
    memory: int = 512       # MiB
    words: str = ""         # more of them on the kernel command line
    queues: int = 0         # of the disks that can be written to
    disk2: str = ""         # read-only
    disk3: str = ""
    tap: str = ""
    mac: str = ""
    pairs: int = 0          # of the network's queues
    cid: int = 0
    uds: str = ""           # of vsock
    entropy: bool = False
    balloon: int = 0        # MiB
    console: str = ""       # a file
    share: str = ""         # a socket
    folder: str = ""        # that inox serves; QEMU cannot
    aio: str = "threads"    # QEMU's

    def cmdline(self):
        return f"console=ttyS0 quiet loglevel=1 panic=-1 net.ifnames=0 root=/dev/vda rw {self.words}"

    def vsock_of_guest(self, vmm, port):
        """The guest's end as `talk` on the host names it."""
        return f"vsock:{self.cid}:{port}" if vmm == "qemu" else f"unix:{self.uds}:{port}"

    def vsock_of_host(self, vmm, port):
        """The host's end as `talk` names it there."""
        return f"vsock:2:{port}" if vmm == "qemu" else f"unix:{self.uds}_{port}"


def command(vmm, inox, machine):
    return qemu_command(machine) if vmm == "qemu" else inox_command(inox, machine)


def inox_command(inox, m):
    queues = f",queues={m.queues}" if m.queues else ""
    pairs = f",queues={m.pairs}" if m.pairs else ""
    command = [inox, "run", "--kernel", m.kernel, "--initrd", m.initrd, "--cpus", str(m.cpus),
               "--memory", f"{m.memory}M", "--cmdline", m.cmdline(), "--disk", f"path={m.disk}{queues}"]
    for wanted, *words in [(m.disk2, "--disk", f"path={m.disk2},readonly=on"),
                           (m.disk3, "--disk", f"path={m.disk3}{queues}"),
                           (m.tap, "--net", f"tap={m.tap},mac={m.mac}{pairs}"),
                           (m.cid, "--vsock", f"cid={m.cid},uds={m.uds}"),
                           (m.entropy, "--entropy"),
                           (m.balloon, "--balloon", f"size={m.balloon},free_page_reporting=on"),
                           (m.console, "--console", m.console),
                           (m.share, "--share", f"tag=share,socket={m.share}"),
                           (m.folder, "--share", f"tag=folder,path={m.folder}")]:
        command += words if wanted else []
    return command


def qemu_command(m):
    """The same machine as QEMU would be used for it: modern virtio on PCI, host page cache, no vhost-net. Its vsock is
    the kernel's."""
    def disk(name, path, options=f"cache=writeback,aio={m.aio}", queues=f",num-queues={m.queues or 1}"):
        return ["-drive", f"if=none,id={name},format=raw,{options},file={path}",
                "-device", f"virtio-blk-pci,drive={name},disable-legacy=on{queues}"]

    pairs = f",queues={m.pairs}" if m.pairs else ""
    vectors = f",mq=on,vectors={2 * m.pairs + 2}" if m.pairs else ""
    command = ["qemu-system-x86_64", "-M", "q35", "-accel", "kvm", "-cpu", "host", "-nodefaults", "-no-user-config",
               "-display", "none", "-no-reboot", "-serial", "stdio", "-smp", str(m.cpus), "-m", str(m.memory),
               "-kernel", m.kernel, "-initrd", m.initrd, "-append", f"{m.cmdline()} reboot=t", *disk("disk", m.disk)]
    for wanted, *words in [(m.disk2, *disk("disk2", m.disk2, "readonly=on", "")),
                           (m.disk3, *disk("disk3", m.disk3)),
                           (m.tap, "-netdev", f"tap,id=net,ifname={m.tap},script=no,downscript=no,vhost=off{pairs}",
                            "-device", f"virtio-net-pci,netdev=net,disable-legacy=on,mac={m.mac}{vectors}"),
                           (m.cid, "-device", f"vhost-vsock-pci,guest-cid={m.cid},disable-legacy=on"),
                           (m.entropy, "-device", "virtio-rng-pci"),
                           (m.balloon, "-device", "virtio-balloon-pci"),
                           (m.console, "-device", "virtio-serial-pci", "-chardev", "null,id=console",
                            "-device", "virtconsole,chardev=console"),
                           (m.share, "-object", f"memory-backend-memfd,id=ram,size={m.memory}M,share=on",
                            "-machine", "memory-backend=ram", "-chardev", f"socket,id=share,path={m.share}",
                            "-device", "vhost-user-fs-pci,chardev=share,tag=share")]:
        command += words if wanted else []
    return command
