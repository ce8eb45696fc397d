#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What hostile_client.py watches: the process under attack, and a client beside the attackers that wants an answer.

hostile_watch.py INOX SOCKET   asks again and again, and prints a line for each answer
"""
import os
import subprocess
import sys
import time

from hostile_messages import request
from hostile_wire import Client

ANSWER_WITHIN = 2.0  # seconds, or 50 times the usual; the promise is 0.1
CTL_WITHIN = 10.0  # which is a process of its own, on however busy a machine

failures = 0


def check(good, text):
    global failures
    if not good:
        failures += 1
        print(f'FAILED: {text}', flush=True)


def eventually(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


class Process:
    """What the kernel says of inox."""

    def __init__(self, pid):
        self.folder = f'/proc/{pid}'

    def kib(self, field):
        with open(f'{self.folder}/status', encoding='ascii') as file:
            return next(int(line.split()[1]) for line in file if line.startswith(field + ':'))

    def descriptors(self):
        return len(os.listdir(f'{self.folder}/fd'))

    def cpu_seconds(self):
        """Of all threads."""
        total = 0
        for task in os.listdir(f'{self.folder}/task'):
            with open(f'{self.folder}/task/{task}/schedstat', encoding='ascii') as stat:
                total += int(stat.read().split()[0])
        return total / 1e9


# The client that behaves


def ask(path):
    """(status, how often the connection was closed instead): of GET /"""
    for lost in range(1000):
        try:
            client = Client(path)
            client.send(request('GET', '/'))
            return client.answer()[0], lost
        except OSError:
            continue
    return 0, 1000


def probe(inox, path):
    for number in range(1 << 30):
        begin = time.monotonic()
        if number % 16 == 1:
            done = subprocess.run([inox, 'ctl', '-s', path, 'status'], stdin=subprocess.DEVNULL, capture_output=True,
                                  check=False)
            result = f'ctl {200 if done.returncode == 0 else 503} 0'
        else:
            result = 'get {} {}'.format(*ask(path))
        print(begin, time.monotonic() - begin, result, flush=True)
        time.sleep(0.01)


class Probe:
    def __init__(self, inox, path, folder):
        self.file = f'{folder}/probe'
        with open(self.file, 'wb') as out:
            self.process = subprocess.Popen([sys.executable, __file__, inox, path], stdout=out)
        self.usual = None

    def samples(self, begin, end):
        with open(self.file, encoding='ascii') as file:
            lines = [line.split() for line in file.read().split('\n')[:-1]]
        return [(float(took), kind, int(status), int(lost)) for at, took, kind, status, lost in lines
                if begin <= float(at) <= end]

    def judge(self, name, begin, full=False):
        """What it saw since `begin`. `full`: it may be told that too many connections are open."""
        end = time.monotonic()
        eventually(lambda: any(True for _ in self.samples(end, end + 60)))  # so the ones before are over
        seen = self.samples(begin, end)
        check(seen, f'{name}: no answer while it went on')
        if not seen:
            return
        times = sorted(took for took, kind, _, _ in seen if kind == 'get') or [0.0]
        ctl = max([took for took, kind, _, _ in seen if kind == 'ctl'] or [0.0])
        median, worst, lost = times[len(times) // 2], times[-1], sum(sample[3] for sample in seen)
        if self.usual is None:
            self.usual = median, worst
        print(f'{name:16} {end - begin:5.1f} s  {len(times):4} answers  median {median * 1e3:7.2f} ms  '
              f'worst {worst * 1e3:7.1f} ms  ctl {ctl * 1e3:6.1f} ms' + (f'  {lost} lost' if lost else ''), flush=True)
        check(len(times) < 5 or median <= max(0.1, 100 * self.usual[0]), f'{name}: the median of the answers')
        check(worst <= max(ANSWER_WITHIN, 50 * self.usual[1]), f'{name}: the slowest answer')
        check(ctl <= CTL_WITHIN, f'{name}: the slowest answer to inox ctl')
        check(full or lost <= max(3, len(times) // 10), f'{name}: connections of clients that ask are closed')
        for _, kind, status, _ in seen:
            check(status == 200 or (full and status == 503), f'{name}: {kind} was answered with {status}')


if __name__ == '__main__':
    probe(*sys.argv[1:])
