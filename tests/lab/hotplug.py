#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A disk and a network interface come and go in running Debian kernels, by the control API; the guest uses them without
being told, gives them back, and inox keeps nothing of them. On the way the guest reads its metadata over the network.
All of it in one start of the lab machine.

    hotplug.py INOX
INOX_TEST_KERNELS: which kernels (default: 6.12 and 6.1-cloud). INOX_HOTPLUG_TURNS: how often (default 10).
"""
import hashlib, json, os, socket, threading
import lab
from lab import Guest, check, checks, expect, expect_same

KERNELS = os.environ.get("INOX_TEST_KERNELS", "6.12 6.1-cloud").split()
TURNS = int(os.environ.get("INOX_HOTPLUG_TURNS", "10"))
LOOPBACKS = {"127.0.0.1": 5080, "::1": 5081}
HAS_IP6 = os.path.exists("/proc/net/if_inet6")      # the lab's own kernel has none
HOST, GUEST = "192.0.2.1", "192.0.2.2"
SOCKET, CONFIG, DISK = "/tmp/hotplug.api", "/tmp/hotplug.json", "/tmp/data.img"
HAVE_BOTH = "until [ -b /dev/vda ] && [ -e /sys/class/net/eth1 ]; do usleep 20000; done"
HAVE_NEITHER = "while [ -e /dev/vda ] || [ -e /sys/class/net/eth1 ]; do usleep 20000; done"
HAVE_DISK = "until [ -b /dev/vda ]; do usleep 20000; done"


def outside(inox):
    kernels = {name: lab.dev("kernel", name) for name in KERNELS}
    lab.enter("--smp", "1", "--memory", "1536", "--timeout", "1500", inox=inox, kernels=kernels,
              initrd=lab.dev("initramfs"))


def inside(inox, kernels, initrd):
    lab.own_network()
    lab.make_tap("inox0")
    lab.make_tap("inox1", f"{HOST}/24")
    for address, port in LOOPBACKS.items():
        if HAS_IP6 or address == "127.0.0.1":
            serve_text(address, port)
    lab.random_file(DISK, 3000000)
    os.truncate(DISK, 3 << 20)
    for name, kernel in kernels.items():
        Life(inox, kernel, initrd).live(name)


def serve_text(address, port):
    """Says where it is to whoever connects"""
    server = socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET)

    def serve():
        while True:
            client, _ = server.accept()
            client.sendall(f"this is {address}\n".encode())
            client.close()
    threading.Thread(target=serve, daemon=True).start()


def ask_port(address, port):
    """What a server behind a forward says; passt may have to start twice, and the server begins again for each. The
    client speaks first: before it does, Debian 12's passt does not tell the server of it"""
    heard = ""

    def hears():
        nonlocal heard
        try:
            with socket.create_connection((address, port), 20) as client:
                client.settimeout(20)
                client.sendall(b"hello\n")
                heard = client.makefile().readline().strip()
        except OSError:
            return False
        return heard != ""
    lab.wait_until(f"{address} port {port} is forwarded to a server", 120, hears)
    return heard


class Life:
    """A guest from its boot to its panic."""

    def __init__(self, inox, kernel, initrd):
        lab.remove(SOCKET)
        lab.write(CONFIG, json.dumps({
            "boot-source": {"kernel_image_path": kernel, "initrd_path": initrd,
                            "boot_args": "console=ttyS0 quiet loglevel=1 panic=-1 net.ifnames=0"},
            "machine-config": {"vcpu_count": 1, "mem_size_mib": 256},
            "network-interfaces": [{"iface_id": "first", "host_dev_name": "inox0", "guest_mac": "02:00:00:00:00:01"}],
            "mmds-config": {"network_interfaces": ["first"], "version": "V2"},
            "inox": {"allow": [DISK, "/dev/net/tun"]}}))
        self.sum = lab.sha256(DISK)
        self.held = []
        self.guest = Guest(inox, "run", "--config", CONFIG, "--api-sock", SOCKET, "--timeout", "1400s")
        self.api = lab.Api(SOCKET)

    def live(self, name):
        if not check(name, self.boots_to_a_shell):
            return
        for turn in range(1, TURNS + 1):
            if not check(name, self.a_disk_and_an_interface_come_and_go, turn):
                return
            self.held.append(self.guest.holdings(256))
        checks(name, self.holds_nothing_of_what_is_gone, self.what_was_not_allowed_is_refused)
        for turn in (1, 2):
            check(name, self.both_are_torn_out, turn)
        checks(name, self.the_guest_gives_a_disk_back_without_being_asked, self.firecrackers_paths_do_the_same,
               self.what_is_written_to_a_temporary_disk_is_gone_with_it, self.metadata_needs_a_token,
               self.metadata_comes_as_text, self.metadata_is_changed_to_38_KB,
               self.the_users_network_needs_no_way_out, self.the_users_network_has_a_way_out,
               self.has_no_complaint_in_its_log, self.panics_with_its_own_status_and_an_event)

    def boots_to_a_shell(self):
        self.guest.enter_shell()
        self.guest.says("quiet", "echo quiet")

    def add_disk(self):
        self.api.ask("PUT", "/inox/devices/data", {"disk": {"path_on_host": DISK}})

    def add_both(self):
        self.api.ask("PUT", "/inox/devices/data", {"disk": {"path_on_host": DISK, "is_read_only": True}})
        self.api.ask("PUT", "/inox/devices/extra", {"net": {"host_dev_name": "inox1"}})
        expect(self.api.listed("data") and self.api.listed("extra"), "not both are listed")
        self.guest.ask(HAVE_BOTH)

    def what_was_not_allowed_is_refused(self):
        for path in ("/etc/shadow", DISK + "/../other", os.path.dirname(DISK)):
            body = self.api.ask("PUT", "/inox/devices/other", {"disk": {"path_on_host": path}}, 400)
            expect("not_allowed" in str(body) and "--allow" in str(body), f"{path}: {body}")

    def remove_both(self, query=""):
        self.api.ask("DELETE", f"/inox/devices/data{query}")
        self.api.ask("DELETE", f"/inox/devices/extra{query}")
        self.api.gone("data", "extra")

    def a_disk_and_an_interface_come_and_go(self, turn):
        self.add_both()
        self.guest.says(self.sum, "sha256sum </dev/vda | cut -d' ' -f1")
        if turn == 1:
            self.guest.ask(f"ip link set eth1 up && ip address add {GUEST}/24 dev eth1 && ping -c 2 -W 10 {HOST}")
        self.remove_both()
        self.guest.ask("[ ! -e /dev/vda ] && [ ! -e /sys/class/net/eth1 ]")

    def holds_nothing_of_what_is_gone(self):
        lab.note(f"descriptors, mappings and KiB after the second turn: {self.held[1]}, at the end: {self.held[-1]}")
        lab.expect_no_leak(self.held[1], self.held[-1])

    def both_are_torn_out(self, turn):
        """Force does not wait for the guest; its drivers let go all the same"""
        self.add_both()
        self.remove_both("?force=true")
        self.guest.ask(HAVE_NEITHER)

    def the_guest_gives_a_disk_back_without_being_asked(self):
        self.add_disk()
        self.guest.ask(HAVE_DISK)
        self.guest.ask("""d=$(readlink -f /sys/block/vda/device); s=${d%/virtio*}; s=${s##*/}
            for p in /sys/bus/pci/slots/*; do ! grep -q "^${s%.*}$" $p/address || echo 0 >$p/power; done""")
        self.api.gone("data")

    def firecrackers_paths_do_the_same(self):
        disk = {"drive_id": "data", "path_on_host": DISK, "is_root_device": False}
        self.api.ask("PUT", "/drives/data", disk)
        self.guest.ask(HAVE_DISK)
        self.api.ask("PUT", "/drives/data", disk, 400)
        self.api.ask("DELETE", "/drives/data")
        self.api.gone("data")

    def what_is_written_to_a_temporary_disk_is_gone_with_it(self):
        """The image may be one that nobody may write; each time the guest finds it as it was"""
        os.chmod(DISK, 0o444)
        for _ in range(2):
            self.api.ask("PUT", "/inox/devices/data", {"disk": {"path_on_host": DISK, "temporary": True}})
            self.guest.ask(HAVE_DISK)
            self.guest.says(self.sum, "sha256sum </dev/vda | cut -d' ' -f1")
            self.guest.ask("dd if=/dev/zero of=/dev/vda bs=64k count=8 conv=fsync 2>/dev/null")
            self.guest.says("0", "echo 3 >/proc/sys/vm/drop_caches; head -c 512k /dev/vda | tr -d '\\0' | wc -c")
            self.api.ask("DELETE", "/inox/devices/data")
            self.api.gone("data")
        expect_same(lab.sha256(DISK), self.sum)
        os.chmod(DISK, 0o644)

    def metadata(self, request, header=""):
        """A shell line that prints what the service answers; by nc, for Debian's static busybox crashes in wget, when
        it looks up the service's name"""
        extra = r"%s\r\n" if header else ""
        return (rf"""printf '{request} HTTP/1.1\r\n{extra}Connection: close\r\n\r\n' "{header}" |"""
                " nc -w 20 169.254.169.254 80 | sed '1,/^.$/d'")

    def metadata_value(self, path):
        return self.metadata(f"GET {path}", "X-metadata-token: $(cat /tmp/token)")

    def metadata_needs_a_token(self):
        self.api.ask("PUT", "/mmds", {"latest": {"meta-data": {"ami-id": "ami-1", "n": 7}}})
        self.guest.ask("ip link set eth0 up && ip address add 198.51.100.2/24 dev eth0 &&"
                       " ip route add 169.254.169.254 dev eth0")
        self.guest.says("yes", f"{self.metadata('GET /latest')} | grep -q '^No MMDS token' && echo yes")
        token = self.metadata("PUT /latest/api/token", "X-metadata-token-ttl-seconds: 300")
        self.guest.ask(f"{token} >/tmp/token; [ $(wc -c </tmp/token) = 48 ]")

    def metadata_comes_as_text(self):
        self.guest.says("meta-data/", self.metadata_value("/latest"))
        self.guest.says("ami-1", self.metadata_value("/latest/meta-data/ami-id"))

    def metadata_is_changed_to_38_KB(self):
        value = ",".join(str(number) for number in range(1, 8001))
        self.api.ask("PATCH", "/mmds", {"latest": {"meta-data": {"ami-id": value}}})
        self.guest.says(f"{hashlib.sha256(value.encode()).hexdigest()}  -",
                        f"{self.metadata_value('/latest/meta-data/ami-id')} | sha256sum")

    # The user's network: the guest's addresses are fixed, so no DHCP client is needed

    def add_user(self, **keys):
        self.api.ask("PUT", "/inox/devices/user", {"net": {"user": True, **keys}})
        self.guest.ask("""until [ -e /sys/class/net/eth1 ]; do usleep 20000; done
            ip link set eth1 up && ip address add 10.0.2.15/24 dev eth1 && ip route add default via 10.0.2.2""")

    def remove_user(self):
        self.api.ask("DELETE", "/inox/devices/user")
        self.api.gone("user")

    def hears(self, wanted, address, port):
        """The first line that a server sends; the end of the connection is not waited for"""
        limit = 5 if wanted == "nothing" else 60
        ask = f"timeout {limit} nc {address} {port} </dev/null | head -n 1"
        self.guest.says(wanted, f"heard=$(exec 2>/dev/null; {ask}); echo ${{heard:-nothing}}")

    def serves(self, port, text):
        self.guest.ask(f"( while nc -l -p {port} -e echo '{text}' 2>/dev/null; do :; done & )")

    def the_users_network_needs_no_way_out(self):
        """Without a default route, and with the host's loopback out of reach: forwards lead in, nothing leads out"""
        self.add_user(forward=["2222:22", "0.0.0.0:8080:80"])
        self.serves(22, "behind 22")
        expect_same(ask_port("127.0.0.1", 2222), "behind 22")
        self.serves(80, "behind 80")
        expect_same(ask_port("192.0.2.1", 8080), "behind 80")
        for address in ("10.0.2.2", "127.0.0.1"):
            self.hears("nothing", address, LOOPBACKS["127.0.0.1"])
        self.remove_user()

    def the_users_network_has_a_way_out(self):
        """With a default route; the host's loopback is reached because it was asked for, and DHCP answers"""
        lab.output("ip", "address", "replace", "198.51.100.1/24", "dev", "inox0")
        lab.output("ip", "route", "add", "default", "via", "198.51.100.9")
        if HAS_IP6:
            self.give_a_default_route_of_ip6()
        self.add_user(host=True, forward=["2222:22"] + ["[::1]:2223:23"] * HAS_IP6)
        self.hears("this is 127.0.0.1", "10.0.2.2", LOOPBACKS["127.0.0.1"])
        self.serves(22, "behind 22")
        expect_same(ask_port("127.0.0.1", 2222), "behind 22")
        self.guest.says("10.0.2.15", "udhcpc -n -q -f -t 5 -i eth1 -s /bin/true 2>&1 |"
                        " sed -n 's/.*lease of \\([0-9.]*\\) obtained.*/\\1/p'")
        if HAS_IP6:
            self.uses_ip6()
        else:
            lab.note("without IPv6, which the lab's kernel has not: INOX_LAB_KERNEL=debian has it")
        self.remove_user()
        lab.output("ip", "route", "delete", "default")

    def give_a_default_route_of_ip6(self):
        lab.output("ip", "address", "replace", "fd00:77::1/64", "dev", "inox0", "nodad")
        lab.output("ip", "route", "add", "default", "via", "fd00:77::9")
        lab.wait_until("inox0 has a link-local address", 60, lambda: "scope link" in lab.output(
            "ip", "-6", "address", "show", "dev", "inox0", "-tentative"))

    def uses_ip6(self):
        """The guest's kernel takes its address from the router's advertisement"""
        self.guest.ask("until ip -6 address show dev eth1 | grep -q 'inet6 fd69.*global'; do usleep 100000; done")
        self.guest.ask("while ip -6 address show dev eth1 | grep -q tentative; do usleep 100000; done")
        self.hears("this is ::1", "fd69:6e6f:7800::2", LOOPBACKS["::1"])
        self.serves(23, "behind 23")
        expect_same(ask_port("::1", 2223), "behind 23")
        lab.output("ip", "-6", "route", "delete", "default")

    def has_no_complaint_in_its_log(self):
        self.guest.complaints("^<[0-3]>|^<4>.*(ACPI|acpi|pci|pnp:|pnp [0-9]|WARNING: CPU|BUG:|hung)")

    def panics_with_its_own_status_and_an_event(self):
        """The kernel says that it panics, by the driver it found; panic=-1 reboots, and that is inox's end"""
        events = self.api.open("GET", "/inox/events")
        events.readline()       # it has those of before
        self.guest.type("echo c >/proc/sysrq-trigger")
        expect_same(self.guest.finish(200), 135)
        lab.expect_match('"event":"guest-panic"', events.read().decode())


lab.main(outside, inside)
