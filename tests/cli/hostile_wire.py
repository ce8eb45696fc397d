# SPDX-License-Identifier: Apache-2.0
"""Connections of hostile_client.py: bytes out, answers in, whatever the other side does."""
import array
import select
import socket
import struct
import threading
import time


def split_answer(data):
    """(status, body, rest) of the first answer; None while it is not whole. A stream counts by its head."""
    head, end, rest = data.partition(b'\r\n\r\n')
    if not end or not head.startswith(b'HTTP/1.'):
        return None
    lines = head.split(b'\r\n')
    status = int(lines[0].split()[1])
    length = 0
    for line in lines[1:]:
        name, _, value = line.partition(b':')
        if name.lower() == b'content-length':
            length = int(value)
    return None if len(rest) < length else (status, rest[:length], rest[length:])


class Client:
    def __init__(self, path, seconds=20.0):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)  # waits where the queue is full
        self.socket.settimeout(seconds)
        self.data = b''

    def send(self, data, descriptors=()):
        if descriptors:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', descriptors))]
            data = data[self.socket.sendmsg([data], rights):]
        self.socket.sendall(data)

    def try_send(self, data):
        """As much as is taken at once."""
        try:
            self.socket.send(data, socket.MSG_DONTWAIT)
        except OSError:
            pass

    def send_in_background(self, data):
        def send():
            try:
                self.socket.sendall(data)
            except OSError:
                pass
        threading.Thread(target=send, daemon=True).start()

    def wait(self, seconds):
        return bool(self.data or select.select([self.socket], [], [], seconds)[0])

    def answer(self):
        """(status, body) of the next one."""
        while True:
            first = split_answer(self.data)
            if first:
                self.data = first[2]
                return first[:2]
            more = self.socket.recv(65536)
            if not more:
                raise ConnectionResetError('the end instead of an answer')
            self.data += more

    def head_status(self):
        """The status of an answer that is not read further."""
        return int(self.socket.recv(16).split()[1])

    def ended(self):
        try:
            return self.socket.recv(1) == b''
        except ConnectionError:
            return True

    def hung_up(self):
        poll = select.poll()
        poll.register(self.socket, 0)
        return any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))

    def shut(self, how):
        self.socket.shutdown(how)

    def close(self):
        self.socket.close()

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        self.socket.close()


def talk(path, data, seconds):
    """Sends all of `data`, bytes or pieces of them, reading at the same time, until the server closes, or has answered
    and says no more: ([(status, body)], whether it has closed)."""
    client = Client(path)
    pieces = iter([data] if isinstance(data, bytes) else data)
    out, received, ended = next(pieces, b''), b'', False
    end = time.monotonic() + seconds
    client.socket.setblocking(False)
    while not ended and time.monotonic() < end:
        over = split_answer(received) and not out and b'Connection: close' not in received
        limit = 0.02 if over else max(end - time.monotonic(), 0)
        reading, writing, _ = select.select([client.socket], [client.socket] if out else [], [], limit)
        if not reading and not writing:
            break
        try:
            if reading:
                more = client.socket.recv(65536)
                received += more
                ended = not more
            if writing:
                out = out[client.socket.send(out):] or next(pieces, b'')
        except BlockingIOError:
            pass
        except OSError:
            out, pieces = b'', iter(())  # the answer may be there still
    client.close()
    answers = []
    while first := split_answer(received):
        answers.append(first[:2])
        received = first[2]
    return answers, ended
