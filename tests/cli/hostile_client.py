#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Clients that attack the API of a running inox, with a client beside them that only wants an answer.

hostile_client.py INOX SOCKET PID ROUNDS FOLDER   ends with 1 when something is wrong. FOLDER is ours.
"""
import json
import multiprocessing
import os
import random
import resource
import socket
import sys
import time

import hostile_messages as messages
import hostile_watch
from hostile_messages import request
from hostile_watch import ask, check, eventually
from hostile_wire import Client, talk

SLOW_WITHIN = 30.0  # seconds; the server cuts slow clients off after 10
CLIENTS = 64  # --api-connections
KIB_GROWN = 12 * 1024  # resident, over the first idle value
KIB_LATER = 4 * 1024  # over the first round's end
KIB_PEAK = 24 * 1024  # at any moment, over the first idle value


# Attacks: each gets the state and a generator of random numbers


class Attack:
    def __init__(self, path, process, folder):
        self.path, self.process, self.folder = path, process, folder
        self.dearest = 0.0, ''  # CPU time of a request, and which

    def client(self):
        return Client(self.path)

    def refused(self, name, data):
        """The connection ends, after one answer that is a refusal."""
        answers, ended = talk(self.path, data, 10)
        statuses = [status for status, _ in answers]
        check(ended and statuses == [400], f'{name}: {statuses}, {"" if ended else "not "}closed')

    def long_lines(self, _rng):
        for name, data in messages.long_lines():
            self.refused(name, data)

    def huge_bodies(self, _rng):
        for name, data in messages.huge_bodies():
            self.refused(name, data)

    def framing(self, _rng):
        """What a server might read as one request and as two."""
        for name, data in messages.framing():
            answers, _ = talk(self.path, data, 10)
            check(answers and answers[0][0] == 400, f'{name}: {[status for status, _ in answers]}')
            check(all(b'firecracker_version' not in body for _, body in answers), f'{name}: a body was a request')

    def json(self, _rng):
        client = self.client()

        def put(target, body):
            begin = self.process.cpu_seconds()
            client.send(request('PUT', target, body))
            return client.answer()[0], self.process.cpu_seconds() - begin
        plain = max(put('/mmds', messages.plain_json())[1] for _ in range(3))
        for name, body, good in messages.json_bodies():
            for target in ('/mmds', '/drives/a', '/machine-config', '/cpu-config'):
                status, used = put(target, body)
                self.dearest = max(self.dearest, (used, f'{name} at {target}'))
                check(status == 400 or (good and target == '/mmds'), f'{name} at {target}: {status}')
                check(used < max(0.04, 12 * plain),
                      f'{name} at {target} costs {used * 1e3:.0f} ms, a good body as large {plain * 1e3:.1f} ms')

    def pipelined(self, _rng):
        for count, read in ((3000, True), (3000, False), (3000, False)):
            client = self.client()
            client.send_in_background(request('GET', '/') * count)
            if read:
                check(all(client.answer()[0] == 200 for _ in range(count)), f'{count} requests at once')
            client.close()

    def half_closed(self, _rng):
        whole = request('PUT', '/mmds', b'{"a": 1}')
        for how in (socket.SHUT_WR, socket.SHUT_RD, socket.SHUT_RDWR):
            for cut in (0, 1, 10, len(whole) - 3, len(whole)):
                client = self.client()
                client.send(whole[:cut])
                client.shut(how)
                if how != socket.SHUT_WR:
                    client.close()
                elif cut == len(whole):
                    check(client.answer()[0] == 204, 'a request of a client that then sends no more')
                else:
                    check(client.ended(), f'a client that sends no more after {cut} bytes')
            client = self.client()
            client.shut(socket.SHUT_RD)  # the answer meets a closed door
            client.try_send(request('GET', '/inox/openapi.json') * 20)
            client.close()

    def resets(self, rng):
        whole = request('PUT', '/mmds', b'{"a": 1}')
        for cut in (0, 1, 20, len(whole) - 3, len(whole), len(whole)):
            for target in ('/', '/inox/openapi.json', '/inox/events', '/inox/metrics'):
                client = self.client()
                client.send(whole[:cut] if cut < len(whole) else request('GET', target) * rng.randrange(1, 5))
                time.sleep(rng.choice((0, 0, 0.001)))
                client.reset()

    def crowd(self, _rng):
        """Far more connections than there are places, held, silent or after a request."""
        held = []
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 100
        for number in range(min(1500, most)):
            held.append(self.client())
            if number % 3 == 0:
                held[-1].try_send(request('GET', '/version'))
        time.sleep(0.1)
        for client in held:
            client.close()

    def busy_crowd(self, _rng):
        """All places have a request that never ends, so newcomers are told."""
        held = [self.client() for _ in range(3 * CLIENTS)]
        for client in held:
            client.try_send(b'PUT /mmds HTTP/1.1\r\n')
        check(eventually(lambda: ask(self.path)[0] == 503), 'nobody is told that all connections are busy')
        time.sleep(0.1)
        for client in held:
            client.close()

    def storm(self, _rng):
        """Connects and closes as fast as two processes can."""
        stop = time.monotonic() + 0.8
        storms = [multiprocessing.Process(target=connect_and_close, args=(self.path, stop)) for _ in range(2)]
        for one in storms:
            one.start()
        for one in storms:
            one.join()

    def upgrades(self, _rng):
        for name, data in messages.other_protocols():
            answers, _ = talk(self.path, data, 10)
            check(answers and answers[0][0] in (200, 204, 400), f'{name}: {[status for status, _ in answers]}')

    def targets(self, rng):
        for data in messages.random_targets(rng, 300):
            answers, _ = talk(self.path, data, 10)
            check(all(status >= 400 for status, _ in answers), f'{data[:80]!r} was answered with {answers[:1]}')

    def events(self, _rng):
        """More readers than there may be, who never read."""
        readers, statuses = [], []
        for _ in range(40):
            readers.append(self.client())
            readers[-1].send(request('GET', '/inox/events'))
            statuses.append(readers[-1].head_status())
        check(statuses.count(200) == 16 and statuses.count(503) == 24, f'40 readers of events: {statuses}')
        client = self.client()
        for number in range(200):  # each is an event while there is a guest
            client.send(request('PATCH', '/vm', json.dumps({'state': ('Paused', 'Resumed')[number % 2]}).encode()))
            client.answer()
        for reader in readers:
            reader.close()

    def rights(self, rng):
        """Descriptors that come with the bytes are not kept."""
        client = self.client()
        for number in range(100):
            reading, writing = os.pipe()
            data = request('GET', '/version')
            cut = rng.randrange(1, len(data))
            if number % 10 == 0:
                client.send(data[:cut], [writing] * 50 + [client.socket.fileno()])
                client.send(data[cut:], [writing] * 50)
            else:
                client.send(data, [writing])
            os.close(writing)
            check(client.answer()[0] == 200, 'a request with descriptors')
            os.set_blocking(reading, False)
            check(eventually(lambda fd=reading: at_end(fd)), 'descriptors that came with a request stay open')
            os.close(reading)

    def noise(self, rng):
        for _ in range(100):
            talk(self.path, rng.randbytes(rng.randrange(1, 20000)), 0.02)

    def mutations(self, rng):
        client = None
        for data in messages.mutations(rng, 1000, self.folder):
            try:
                client = client or Client(self.path, 0.3)
                client.send(data)
                if client.wait(0.002) and client.answer()[0] < 500:
                    continue
            except OSError:
                pass
            if client is not None:
                client.close()
            client = None

    def paths(self, _rng):
        """Files that open or read without end."""
        fifo = f'{self.folder}/fifo'
        if not os.path.exists(fifo):
            os.mkfifo(fifo)
        client = self.client()
        for file in (fifo, self.folder, '/dev/zero', '/dev/full', '/proc/self/maps', '/dev/tty', '/' * 20000):
            for target, body in messages.with_path(file):
                client.send(request('PUT', target, body))
                check(client.answer()[0] in (204, 400), f'{file[:50]} at {target}')


def connect_and_close(path, stop):
    while time.monotonic() < stop:
        with socket.socket(socket.AF_UNIX) as one:
            try:
                one.connect(path)
            except OSError:
                pass


def at_end(fd):
    try:
        return os.read(fd, 1) == b''
    except BlockingIOError:
        return False


def slow(path, seed):
    """Clients that send a byte now and then, or never read; ends when the server has cut all of them off."""
    rng = random.Random(seed)
    begin = time.monotonic()
    clients = []
    for data, reads in messages.slow(rng):
        client = Client(path)
        client.rest, client.reads = data, reads
        if not reads:
            client.send_in_background(data)
        clients.append(client)
    while clients and time.monotonic() < begin + SLOW_WITHIN:
        for client in clients:
            if client.reads:
                client.try_send(client.rest[:1])
                client.rest = client.rest[1:]
        clients = [client for client in clients if not client.hung_up()]
        time.sleep(0.05)
    sys.exit(len(clients))


ATTACKS = ('long_lines', 'huge_bodies', 'framing', 'json', 'pipelined', 'half_closed', 'resets', 'crowd', 'busy_crowd',
           'storm', 'upgrades', 'targets', 'events', 'rights', 'noise', 'mutations', 'paths')
FULL = ('crowd', 'busy_crowd')


def attack_in_rounds(rounds, attack, watched, path):
    process = attack.process
    attack.paths(None)  # a log file and metrics, once taken, stay open
    begin = time.monotonic()
    time.sleep(1)
    watched.judge('no attack', begin)
    idle = process.kib('VmRSS')
    kib = [idle]
    # The probe itself has a connection now and then
    few = max(process.descriptors() for _ in range(50) if time.sleep(0.002) is None)
    print(f'idle: {idle} KiB, at most {few} descriptors')
    for number in range(rounds):
        if number == 0:
            slowly = multiprocessing.Process(target=slow, args=(path, number))
            slowly.start()
        for name in ATTACKS:
            begin = time.monotonic()
            rng = random.Random(f'{number} {name}')
            while time.monotonic() < begin + 0.2:
                getattr(attack, name)(rng)
            watched.judge(name, begin, name in FULL)
        if number == 0:
            begin = time.monotonic()
            slowly.join()
            time.sleep(0.2)
            watched.judge('slow alone', begin)
            check(slowly.exitcode == 0, f'{slowly.exitcode} slow clients are still connected')
        check(eventually(lambda: process.descriptors() <= few), f'{process.descriptors()} descriptors, {few} before')
        kib.append(process.kib('VmRSS'))
        print(f'round {number + 1}: {kib[-1]} KiB, {process.descriptors()} descriptors', flush=True)
    peak = process.kib('VmHWM')
    print(f'resident: {kib} KiB, at most {peak} KiB; the dearest request: '
          f'{attack.dearest[1]}, {attack.dearest[0] * 1e3:.0f} ms')
    check(kib[-1] - idle < KIB_GROWN, 'memory grew')
    check(kib[-1] - kib[1] < KIB_LATER, 'memory grows with each round')
    check(peak - idle < KIB_PEAK, 'a request takes much memory for a while')


def devices_without_end(path, folder):
    """A configuration that is never started has an end too."""
    client = Client(path)
    taken = 0
    for number in range(300):
        drive = {'drive_id': f'd{number}', 'is_root_device': False, 'path_on_host': f'{folder}/disk'}
        client.send(request('PUT', f'/drives/d{number}', json.dumps(drive).encode()))
        taken += client.answer()[0] == 204
    check(0 < taken < 100, f'{taken} drives were stored')


def main():
    inox, path, pid, rounds, folder = sys.argv[1:]
    watched = hostile_watch.Probe(inox, path, folder)
    try:
        check(eventually(lambda: len(watched.samples(0, 1e18)) > 5), 'the API answers at all')
        attack_in_rounds(int(rounds), Attack(path, hostile_watch.Process(pid), folder), watched, path)
        if talk(path, request('GET', '/'), 10)[0][0][1].count(b'Not started'):
            begin = time.monotonic()
            devices_without_end(path, folder)
            time.sleep(0.2)
            watched.judge('devices', begin)
    finally:
        watched.process.kill()
    print(f'{hostile_watch.failures} failures')
    return hostile_watch.failures != 0


if __name__ == '__main__':
    sys.exit(main())
