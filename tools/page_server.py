#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Brings the memory of restored guests, page by page when it is touched: an example of a server for
`inox run --from DIR --page-server SOCKET` and Firecracker's backend_type Uffd.

    page_server.py SOCKET MEMORY [--pages N]

MEMORY: the memory file of the snapshot, which must not change. Each guest that connects is served by a process of its
own, until it ends. --pages: how many pages a fault brings (default 16; 1 is the least that works).
"""
import argparse, ctypes, errno, fcntl, json, mmap, os, select, signal, socket, struct, sys

PAGEFAULT, REMOVE = 0x12, 0x15                                     # linux/userfaultfd.h
COPY, WAKE = 0xC028AA03, 0x8010AA02
EVENT = struct.Struct("@B7x QQQ")


class Guest:
    def __init__(self, connection, memory, pages):
        text, fds, _, _ = socket.recv_fds(connection, 65536, 1)
        self.connection, self.faults = connection, fds[0]
        self.regions = json.loads(text)
        self.image = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        self.pages = pages
        self.zeros = ctypes.create_string_buffer(pages * self.regions[0]["page_size"])
        self.removed = set()                                       # addresses that the guest gave back
        if sum(region["size"] for region in self.regions) != len(memory):
            raise SystemExit("page_server: the memory file is not as large as the guest's memory")

    def serve(self):
        waiting = []
        poll = select.poll()
        poll.register(self.faults, select.POLLIN)
        poll.register(self.connection, select.POLLIN)
        while True:
            # With a page that could not be brought, look again soon: no event may tell that it can be
            for fd, _ in poll.poll(1 if waiting else None):
                if fd == self.connection.fileno() and not self.connection.recv(4096):
                    return
            waiting = [page for page in waiting + self.read_events() if not self.bring(page)]

    def read_events(self):
        """All that wait are read first: a page that was given back is zero for the faults that are read with that."""
        found = []
        while True:
            try:
                data = os.read(self.faults, EVENT.size * 64)
            except BlockingIOError:
                return found
            for kind, first, second, third in EVENT.iter_unpack(data):
                if kind == PAGEFAULT:
                    found.append(second)
                elif kind == REMOVE:
                    step = self.region(first)["page_size"]
                    self.removed.update(range(first, second, step))

    def region(self, address):
        return next(one for one in self.regions if 0 <= address - one["base_host_virt_addr"] < one["size"])

    def bring(self, address):
        """False: a REMOVE event has to be read first."""
        region = self.region(address)
        step, base = region["page_size"], region["base_host_virt_addr"]
        page = address // step * step
        given_back = page in self.removed
        count = 1
        while (count < self.pages and page + count * step < base + region["size"]
               and (page + count * step in self.removed) == given_back):
            count += 1
        source = ctypes.addressof(self.zeros) if given_back else self.image + region["offset"] + page - base
        return (count > 1 and self.fill(page, count * step, source)) or self.fill(page, step, source)

    def fill(self, page, size, source):
        """False: a page of several is there already, or an event has to be read first."""
        try:
            fcntl.ioctl(self.faults, COPY, bytearray(struct.pack("@QQQQq", page, source, size, 0, 0)))
        except OSError as error:
            if error.errno == errno.EEXIST and size == self.region(page)["page_size"]:
                fcntl.ioctl(self.faults, WAKE, bytearray(struct.pack("@QQ", page, size)))
            elif error.errno in (errno.EAGAIN, errno.EEXIST):
                return False
            elif error.errno not in (errno.ENOENT, errno.ESRCH):   # the guest has ended
                raise
        return True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("socket")
    parser.add_argument("memory")
    parser.add_argument("--pages", type=int, default=16)
    asked = parser.parse_args()
    with open(asked.memory, "rb") as file:
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(asked.socket)
    listener.listen()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            Guest(connection, memory, asked.pages).serve()
            os._exit(0)
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
