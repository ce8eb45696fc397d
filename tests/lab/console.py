#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The virtio console on a terminal: what is typed arrives, what the guest prints is seen, a resize is told to the guest.

    console.py KERNEL INITRD INOX        inside the lab
"""
import base64, fcntl, os, pty, select, struct, sys, termios, time

kernel, initrd, inox = sys.argv[1:]
GUEST = """
exec </dev/hvc0 >/dev/hvc0 2>&1
for i in $(seq 100); do [ "$(stty size)" = "33 101" ] && break; sleep 0.1; done
echo "size $(stty size)"
read line && echo "guest read $line"
for i in $(seq 100); do [ "$(stty size)" = "40 120" ] && break; sleep 0.1; done
echo "size $(stty size)"
exit 7
"""


def set_size(rows, columns):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def await_text(text, seconds):
    global seen
    limit = time.monotonic() + seconds
    while text not in seen:
        if not select.select([terminal], [], [], max(0, limit - time.monotonic()))[0]:
            sys.exit(f"FAIL console: no '{text}' within {seconds} s, but: {seen[-400:]!r}")
        try:
            seen += os.read(terminal, 4096).decode(errors="replace")
        except OSError:
            sys.exit(f"FAIL console: ended before '{text}': {seen[-400:]!r}")
    print(f"PASS console: '{text}'")


words = "console=ttyS0 quiet panic=-1 inox.sh=" + base64.b64encode(GUEST.encode()).decode()
child, terminal = pty.fork()
if child == 0:
    time.sleep(0.2)  # until the terminal has its size
    os.execv(inox, [inox, "run", "--kernel", kernel, "--initrd", initrd, "--memory", "256M", "--console", "terminal",
                    "--timeout", "120s", "--cmdline", words])
seen = ""
set_size(33, 101)
await_text("size 33 101", 100)
os.write(terminal, b"typed words\r")
await_text("guest read typed words", 20)
set_size(40, 120)
await_text("size 40 120", 20)
try:
    while os.read(terminal, 4096):
        pass
except OSError:
    pass
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
if status != 7:
    sys.exit(f"FAIL console: the status is {status}, not the guest's 7")
print("PASS console: the guest's status")
