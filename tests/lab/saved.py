# SPDX-License-Identifier: Apache-2.0
"""A machine that the lab's tests save and restore: one with PCI by inox's own commands, one with MMIO by Firecracker's
requests."""
import json, os, pathlib
import lab
from lab import Guest

HOST, GUEST = "192.0.2.1", "192.0.2.2"
TAP = "inox0"


class Saved:
    """Its files are in `work`. `limit`: --timeout of each process; Firecracker's way has none."""

    def __init__(self, inox, work, transport, cpus, memory, kernel, initrd, drives, words="", limit="800s"):
        self.inox, self.work, self.transport, self.cpus, self.limit = inox, pathlib.Path(work), transport, cpus, limit
        self.name = f"{transport}, {cpus} CPUs"
        self.allowed = sorted({str(self.work), *(os.path.dirname(path) for path in drives.values())})
        self.socket, self.vsock, self.console = (str(self.work / name) for name in ("api", "vsock", "console"))
        self.config = {
            "boot-source": {"kernel_image_path": kernel, "initrd_path": initrd,
                            "boot_args": f"console=ttyS0 quiet loglevel=1 panic=-1 net.ifnames=0 {words}".strip()},
            "machine-config": {"vcpu_count": cpus, "mem_size_mib": memory},
            "drives": [{"drive_id": name, "path_on_host": path, "is_root_device": False, "is_read_only": False}
                       for name, path in drives.items()],
            "network-interfaces": [{"iface_id": "eth0", "host_dev_name": TAP, "guest_mac": "02:00:00:00:00:01"}],
            "balloon": {"amount_mib": 0, "deflate_on_oom": True, "stats_polling_interval_s": 1},
            "vsock": {"guest_cid": 3, "uds_path": self.vsock}}
        self.guest = None

    def start(self, *more):
        lab.remove(self.socket, self.vsock)
        self.guest = Guest(self.inox, *more)
        self.api = lab.Api(self.socket)

    def boot(self):
        if self.transport == "pci":
            self.config["console"] = {"path": self.console}
            self.config["inox"] = {"allow": self.allowed}
        lab.write(self.work / "config.json", json.dumps(self.config))
        if self.transport == "pci":
            self.start("run", "--config", str(self.work / "config.json"), "--api-sock", self.socket, "--timeout",
                       self.limit)
        else:
            self.start("--api-sock", self.socket, "--config-file", str(self.work / "config.json"))

    def folder(self, number):
        return self.work / f"{self.transport}{self.cpus}.{number}"

    def save(self, number, pause=False):
        """And kills the process. What runs goes on between the two, and sends what its restored self does not know of:
        TCP ends by that. So `pause` first where it must live on; Firecracker's way always does."""
        folder = self.folder(number)
        if pause or self.transport == "mmio":
            self.api.ask("PATCH", "/vm", {"state": "Paused"})
        if self.transport == "pci":
            lab.output(self.inox, "ctl", "-s", self.socket, "snapshot", str(folder))
        else:
            folder.mkdir()
            self.api.ask("PUT", "/snapshot/create", {"snapshot_type": "Full", "snapshot_path": str(folder / "state"),
                                                     "mem_file_path": str(folder / "memory")})
        self.guest.kill()

    def restore(self, number, pages=None):
        folder = self.folder(number)
        if self.transport == "pci":
            self.start("run", "--from", str(folder), "--net", f"{TAP},id=eth0", "--api-sock", self.socket, "--timeout",
                       self.limit, *(word for path in self.allowed for word in ("--allow", path)),
                       *(["--page-server", pages] if pages else []))
        else:
            self.start("--api-sock", self.socket)
            lab.wait_until("the API's socket is there", 60, lambda: os.path.exists(self.socket))
            self.api.ask("PUT", "/snapshot/load", {"snapshot_path": str(folder / "state"), "resume_vm": True,
                                                   "mem_backend": {"backend_type": "Uffd" if pages else "File",
                                                                   "backend_path": pages or str(folder / "memory")}})
